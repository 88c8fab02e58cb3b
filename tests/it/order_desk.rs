//! The order desk as a shop sees it: real processes, plain AMQP.

use std::collections::BTreeMap;

use harness::{Inbox, Lines, Message, Process, World, workspace};
use serde_json::{Value, json};

/// The server, and a desk that takes orders.
struct Shop {
    world: World,
    server: Process,
    desk: Process,
    _output: [Lines; 2],
}

impl Shop {
    async fn open(arguments: &[&str]) -> anyhow::Result<Self> {
        let world = World::new().await?;
        // As an operator does it: `counterfoil setup --queue orders`.
        world.work_queue("orders").await?;
        let start = |user: &str, program: &str, arguments: &[&str]| {
            Process::start(program, arguments, &world.environment(user), &world.directory)
        };
        let (server, mut said) = start("server", "counterfoil", &["server"])?;
        said.until("working").await?;
        let (desk, output) = start("worker", "order-desk", arguments)?;
        Ok(Self { world, server, desk, _output: [said, output] })
    }

    async fn close(self) -> anyhow::Result<()> {
        assert_eq!(self.desk.terminate().await?, Some(0));
        assert_eq!(self.server.terminate().await?, Some(0));
        Ok(())
    }
}

/// The messages of a kind, each under its order number.
async fn of_each(inbox: &mut Inbox, kind: &str) -> anyhow::Result<BTreeMap<String, Message>> {
    let mut found = BTreeMap::new();
    while found.len() < sample().len() {
        let message = inbox.next_of(kind).await?;
        found.insert(message.text("job_id").to_owned(), message);
    }
    Ok(found)
}

/// The orders of the sample file, under their numbers.
fn sample() -> BTreeMap<String, String> {
    let path = workspace().join("services/order-desk/orders.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let number = |line: &str| {
        let order: Value = serde_json::from_str(line).unwrap();
        order["order"].as_str().unwrap_or_default().to_owned()
    };
    text.lines().map(|line| (number(line), line.to_owned())).collect()
}

#[tokio::test]
async fn claim_17_an_order_receiving_server_takes_orders_and_tells_what_became_of_each()
-> anyhow::Result<()> {
    let open = Shop::open(&[]).await?;
    let till = open.world.raw("shop").await?;
    let (mut inbox, orders) = (till.inbox("till-1").await?, sample());
    for (number, order) in &orders {
        let notify = [("job-notify", "terminal")];
        till.submit_job("order.place", number, &inbox.queue, &notify, order).await?;
    }
    let receipts = of_each(&mut inbox, "receipt").await?;
    for (number, receipt) in &receipts {
        let taken = (receipt.text("answer"), &receipt.body["duplicate"]);
        assert_eq!(taken, ("found", &json!(false)), "{number}");
    }
    let ended = of_each(&mut inbox, "event").await?;
    let in_state = |state: &str| ended.values().filter(|end| end.text("state") == state).count();
    assert_eq!((in_state("succeeded"), in_state("failed")), (17, 7));
    // 3 × 19.90 + 2 × 4.50 + 1 × 129.00, by the catalogue.
    let whole = &ended["A-1024"].body["result"];
    assert_eq!(*whole, json!({ "order": "A-1024", "total_cents": 19_770, "reserved": 6 }));
    for (number, why) in [
        ("A-1017", "Z9: no such article"),
        ("A-1018", "A1: the quantity is 0; allowed is 1 to 100"),
        ("A-1019", "E5: 2 wanted, 1 left"),
        ("A-1020", "the order has no lines"),
        ("A-1021", "the order names no customer"),
    ] {
        assert_eq!(ended[number].text("error"), why, "{number}");
    }
    // Later, in one question: by the order's number, and by the ticket of its receipt.
    let by_number = orders.keys().map(|number| json!({ "job_id": number }));
    let by_ticket = receipts.values().map(|receipt| json!({ "ticket": receipt.body["ticket"] }));
    for subjects in [by_number.collect::<Vec<_>>(), by_ticket.collect()] {
        till.ask("status", &inbox.queue, json!({ "jobs": subjects })).await?;
        for (number, status) in of_each(&mut inbox, "status").await? {
            assert_eq!(status.text("answer"), "found", "{number}");
            assert_eq!(status.text("state"), ended[&number].text("state"), "{number}");
        }
    }
    open.close().await
}

#[tokio::test]
async fn an_order_that_is_sent_twice_takes_its_articles_once() -> anyhow::Result<()> {
    let open = Shop::open(&[]).await?;
    let till = open.world.raw("shop").await?;
    let mut inbox = till.inbox("till-1").await?;
    let notify = [("job-notify", "terminal")];
    // There is one E5 in the stock.
    let order = |number: &str| {
        let line = json!({ "sku": "E5", "qty": 1 });
        json!({ "order": number, "customer": "customer-1", "lines": [line] }).to_string()
    };
    for (number, is_duplicate, ended) in
        [("B-1", false, Some("succeeded")), ("B-1", true, None), ("B-2", false, Some("failed"))]
    {
        till.submit_job("order.place", number, &inbox.queue, &notify, &order(number)).await?;
        let receipt = inbox.next_of("receipt").await?;
        assert_eq!(receipt.body["duplicate"], is_duplicate, "{number}");
        if let Some(ended) = ended {
            assert_eq!(inbox.next_of("event").await?.text("state"), ended, "{number}");
        }
    }
    till.submit_job("order.place", "B-1", &inbox.queue, &notify, &order("B-9")).await?;
    assert_eq!(inbox.next_of("refusal").await?.text("code"), "id_conflict");
    open.close().await
}

#[tokio::test]
async fn an_order_is_called_back_while_the_desk_is_at_it() -> anyhow::Result<()> {
    let open = Shop::open(&["--pace-ms", "600000"]).await?;
    let till = open.world.raw("shop").await?;
    let mut inbox = till.inbox("till-1").await?;
    let order = &sample()["A-1001"];
    let notify = [("job-notify", "*")];
    till.submit_job("order.place", "A-1001", &inbox.queue, &notify, order).await?;
    assert_eq!(inbox.event("stage").await?.text("stage"), "validated");
    till.ask("cancel", &inbox.queue, json!({ "job_id": "A-1001" })).await?;
    assert_eq!(inbox.event("cancelled").await?.body["done"], true);
    open.close().await
}
