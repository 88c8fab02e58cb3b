"""What this project asks of its deployment files, beyond their form.

rules.py KIND FILE ROOT [SECRETS]: one line for each rule that is broken; exit status 1 if any is.
"""

import json
import pathlib
import re
import sys
import tomllib

import yaml

broken = []


def rule(holds, text):
    if not holds:
        broken.append(text)


class Repository:
    """What the files must agree with."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        settings = tomllib.loads((self.root / "config/default.toml").read_text())
        # Reading stops, jobs may go on, what is left is given back: docs/OPERATIONS.md, "Stopping".
        self.drain_s = 2 * settings["worker"]["drain_ms"] / 1000 + 5
        cargo = tomllib.loads((self.root / "Cargo.toml").read_text())
        self.version = cargo["workspace"]["package"]["version"]
        self.rust = cargo["workspace"]["package"]["rust-version"]


def dockerfile(path, repository, _):
    text = path.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in lines:
        if re.match(r"RUN cargo (install|build|chef cook)", line):
            rule("--locked" in line, f"without --locked: {line}")
    stages = [index for index, line in enumerate(lines) if line.startswith("FROM ")]
    last = lines[stages[-1]:]
    rule("${RUNTIME_IMAGE}" in last[0], "the last stage does not stand on RUNTIME_IMAGE")
    rule("USER 65532:65532" in last, "the last stage has no USER 65532:65532")
    rule(any(line.startswith("ENTRYPOINT [") for line in last), "no ENTRYPOINT in exec form")
    rule('RUN ["/usr/bin/counterfoil", "--version"]' in last, "the program is not tried")
    rule(f"ARG VERSION={repository.version}" in last, f"VERSION is not {repository.version}")
    for label in ["title", "licenses", "version", "revision"]:
        rule(f"org.opencontainers.image.{label}=" in text, f"no label {label}")
    images = [line for line in lines if re.match(r"ARG (RUST|RUNTIME)_IMAGE=", line)]
    rule(len(images) == 2, "RUST_IMAGE and RUNTIME_IMAGE are not both there")
    for line in images:
        rule(re.search(r"[:@][^/]+$", line) and ":latest" not in line, f"without a tag: {line}")
    rule(f"/rust:{repository.rust}-" in text, f"the compiler is not {repository.rust}")


def seconds(text):
    match = re.fullmatch(r"(\d+)s", str(text))
    return int(match[1]) if match else 0


def compose(path, repository, secrets):
    text = path.read_text()
    rule(not re.search(r"://[^\s/]*:[^\s/]*@", text), "a URL holds a password")
    document = yaml.safe_load(text)
    for name, secret in document["secrets"].items():
        made = secrets / pathlib.Path(secret["file"]).name
        rule(made.is_file(), f"secret {name}: secrets.sh makes no {made.name}")
    for name, service in document["services"].items():
        def need(holds, what, name=name):
            rule(holds, f"service {name}: {what}")

        need(service.get("read_only") is True, "read_only is not true")
        need(service.get("cap_drop") == ["ALL"], "cap_drop is not [ALL]")
        need("no-new-privileges:true" in service.get("security_opt", []), "no no-new-privileges")
        need(str(service.get("user", "root")) not in ("root", "0"), "it runs as root")
        need("restart" in service, "no restart")
        image, _, tag = service["image"].rpartition(":")
        need(image and tag != "latest", f"image {service['image']} has no version")
        for port in service.get("ports", []):
            need(str(port).startswith("127.0.0.1:"), f"port {port} is open to other machines")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                need((path.parent / source).is_file(), f"there is no {source}")
                need(volume.endswith(":ro"), f"{source} is not mounted :ro")
            else:
                need(source in document["volumes"], f"volume {source} is not declared")
        if image == "counterfoil":
            need(tag == repository.version, f"the image is not {repository.version}")
            drains = seconds(service["stop_grace_period"]) > repository.drain_s
            need(drains, f"stop_grace_period is not over {repository.drain_s} s")
            for other in ["rabbitmq", "redis"]:
                condition = service["depends_on"].get(other, {}).get("condition")
                need(condition == "service_healthy", f"it does not wait for a healthy {other}")
            files = {f"/run/secrets/{secret}" for secret in service["secrets"]}
            need(files == set(service["environment"].values()), "secrets and environment differ")
        else:
            need("test" in service.get("healthcheck", {}), "no health check")
    node = document["services"]["rabbitmq"]
    rule("hostname" in node, "RabbitMQ has no fixed hostname")
    is_one = any("/one-node.json:" in volume for volume in node["volumes"])
    rule(is_one, "RabbitMQ's definitions are those of a cluster")
    rule(node["image"].endswith(":3.13"), "RabbitMQ is not 3.13")
    rule(":7" in document["services"]["redis"]["image"], "Redis is not 7")


def deployment(name, spec, repository):
    def need(holds, what):
        rule(holds, f"Deployment {name}: {what}")

    pod = spec["template"]["spec"]
    grace = pod.get("terminationGracePeriodSeconds", 30)
    need(grace > repository.drain_s, f"the grace period is not over {repository.drain_s} s")
    need(pod.get("automountServiceAccountToken") is False, "it gets a token")
    need(pod.get("serviceAccountName") == "counterfoil", "no service account of its own")
    need(pod.get("topologySpreadConstraints"), "its pods are not spread")
    labels = spec["template"]["metadata"]["labels"]
    need(spec["selector"]["matchLabels"] == labels, "its selector is not its labels")
    security = pod.get("securityContext", {})
    need(security.get("runAsNonRoot") is True, "runAsNonRoot is not true")
    need(security.get("runAsUser", 0) != 0, "runAsUser is root")
    profile = security.get("seccompProfile", {}).get("type")
    need(profile == "RuntimeDefault", "seccompProfile is not RuntimeDefault")
    mounted = {volume["name"] for volume in pod.get("volumes", [])}
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        need(own.get("allowPrivilegeEscalation") is False, "privileges can be escalated")
        need(own.get("readOnlyRootFilesystem") is True, "its file system can be written")
        need(own.get("capabilities", {}).get("drop") == ["ALL"], "it keeps capabilities")
        need("memory" in container["resources"].get("limits", {}), "no limit of memory")
        need("requests" in container["resources"], "no requests")
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        need({mount["name"] for mount in container["volumeMounts"]} == mounted, "mounts differ")
        for variable in container["env"]:
            at = variable.get("value", "").rpartition("/")[0]
            need(variable["name"].endswith("_FILE"), f"{variable['name']} is not a file")
            need(at in paths, f"{variable['name']}: nothing is mounted at {at}")
        need("livenessProbe" not in container, "a liveness probe: see server.yaml")


def manifest(path, repository, _):
    documents = [one for one in yaml.safe_load_all(path.read_text()) if one]
    for one in documents:
        name = f"{one['kind']} {one['metadata']['name']}"
        if one["kind"] == "Deployment":
            deployment(one["metadata"]["name"], one["spec"], repository)
        if one["kind"] == "PodDisruptionBudget":
            rule(one["spec"].get("maxUnavailable") == 1, f"{name}: maxUnavailable is not 1")
        if one["kind"] == "ServiceAccount":
            rule(one.get("automountServiceAccountToken") is False, f"{name}: it has a token")
        if one["kind"] == "Namespace":
            enforced = one["metadata"]["labels"].get("pod-security.kubernetes.io/enforce")
            rule(enforced == "restricted", f"{name}: restricted is not enforced")
        if one["kind"] == "NetworkPolicy":
            rule(one["spec"].get("ingress") == [], f"{name}: something may come in")
            rule(set(one["spec"]["policyTypes"]) == {"Ingress", "Egress"}, f"{name}: one way only")
        rule(one["kind"] != "Secret", f"{name}: secrets are not kept here")


def rendered(path, repository, _):
    manifest(path, repository, _)
    documents = [one for one in yaml.safe_load_all(path.read_text()) if one]
    by_kind = {}
    for one in documents:
        by_kind.setdefault(one["kind"], []).append(one)
        here = one["metadata"]["name" if one["kind"] == "Namespace" else "namespace"]
        rule(here == "counterfoil", f"{one['kind']} is in namespace {here}")
    budgets = [one["spec"]["selector"] for one in by_kind.get("PodDisruptionBudget", [])]
    rule(by_kind.get("NetworkPolicy"), "no NetworkPolicy")
    maps = {one["metadata"]["name"]: one["data"] for one in by_kind.get("ConfigMap", [])}
    names = {one["metadata"]["name"] for one in by_kind.get("Deployment", [])}
    rule(names == {"counterfoil-server", "counterfoil-worker"}, f"Deployments are {names}")
    for one in by_kind.get("Deployment", []):
        name = one["metadata"]["name"]
        rule(one["spec"]["selector"] in budgets, f"Deployment {name}: no disruption budget")
        pod = one["spec"]["template"]["spec"]
        image = pod["containers"][0]["image"]
        wanted = f"counterfoil:{repository.version}"
        rule(image == wanted, f"Deployment {name}: image {image} is not {wanted}")
        config = next((v["configMap"] for v in pod["volumes"] if "configMap" in v), {})
        files = maps.get(config.get("name"), {})
        rule(list(files) == ["counterfoil.toml"], f"Deployment {name}: no settings are mounted")


def unit(path, repository, _):
    lines = path.read_text().splitlines()
    values = [line.partition("=")[::2] for line in lines if "=" in line and line[0] not in "#["]
    of = {key: value for key, value in values}
    role = path.stem.removeprefix("counterfoil-")
    starts = f"/usr/bin/counterfoil --config /etc/counterfoil/production.toml {role}"
    rule(of.get("ExecStart") == starts, f"ExecStart is not {starts}")
    rule(of.get("Type") == "exec", "Type is not exec: the program does not speak sd_notify")
    rule(of.get("DynamicUser") == "yes", "no DynamicUser")
    stops = int(of.get("TimeoutStopSec", 0))
    rule(stops > repository.drain_s, f"TimeoutStopSec is not over {repository.drain_s} s")
    loaded = {value.split(":")[0] for key, value in values if key == "LoadCredential"}
    named = {value.partition("%d/")[2] for key, value in values if key == "Environment"}
    rule(loaded == named, f"credentials {loaded} and variables {named} differ")


# RabbitMQ imports a queue with any argument, and finds out later.
ARGUMENTS = {
    "x-queue-type": str, "x-delivery-limit": int, "x-max-length-bytes": int, "x-overflow": str,
    "x-dead-letter-exchange": str, "x-dead-letter-strategy": str, "x-single-active-consumer": bool,
}


def definitions(path, _, __):
    document = json.loads(path.read_text())
    users = {user["name"]: user for user in document["users"]}
    rule({"counterfoil-server", "counterfoil-worker"} <= users.keys(), f"users: {set(users)}")
    for name, user in users.items():
        rule(user.get("password_hash") == "" and "password" not in user, f"{name} has a password")
        rule(not user.get("tags"), f"{name} has tags")
    queues = [queue["name"] for queue in document["queues"]]
    exchanges = [exchange["name"] for exchange in document["exchanges"]]
    # What a classic queue holds is on one node: requests alone may be, where there is one.
    classic = {"counterfoil.inquiry"} if path.name == "one-node.json" else set()
    for queue in document["queues"]:
        kind = "classic" if queue["name"] in classic else "quorum"
        holds = queue["durable"] and queue["arguments"].get("x-queue-type") == kind
        rule(holds, f"{queue['name']} is no durable {kind} queue")
        for name, value in queue["arguments"].items():
            rule(type(value) is ARGUMENTS.get(name), f"{queue['name']}: {name} is {value!r}")
    for right in document["permissions"]:
        if right["user"].startswith("counterfoil-"):
            continue
        # A client: what docs/PROTOCOL.md says of its rights, and no more.
        may = {f"write {name}" for name in exchanges if re.search(right["write"], name)}
        may |= {f"configure {name}" for name in queues + exchanges
                if re.search(right["configure"], name)}
        may |= {f"read {name}" for name in queues if re.search(right["read"], name)}
        wanted = {"write counterfoil.submit", "write counterfoil.request"}
        rule(may == wanted, f"{right['user']} may {sorted(may)}")


def main():
    kind, path, root, *secrets = sys.argv[1:]
    check = {f.__name__: f for f in
             [dockerfile, compose, manifest, rendered, unit, definitions]}[kind]
    path = pathlib.Path(path)
    secrets = pathlib.Path(secrets[0]) if secrets else None
    try:
        check(path, Repository(root), secrets)
    except (KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        broken.append(f"{type(error).__name__}: {error}")
    for text in broken:
        print(text)
    sys.exit(1 if broken else 0)


main()
