// A producer for Counterfoil in Go, written from docs/PROTOCOL.md, with amqp091-go.
//
//	AMQP_URL=amqp://shop:secret@localhost/ go run producer.go order.place '{"sku":"A1"}'
//
// Submits one job, waits until it is done, asks for its status; prints one JSON line for each thing
// that it learns. It does not reconnect: a connection that fails ends it, and whoever starts it
// again with the same JOB_ID sends the same job again, which is the same job to the server. Exit
// status: 0 succeeded, 3 the job ended otherwise or was refused, 1 anything else.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	amqp "github.com/rabbitmq/amqp091-go"
)

// producer submits jobs and asks about them over one channel. It belongs to one goroutine.
type producer struct {
	channel *amqp.Channel
	client  string
	replyTo string
	inbox   <-chan amqp.Delivery
}

// open declares the reply queue and listens to it before anything is sent.
func open(connection *amqp.Connection, client string) (*producer, error) {
	channel, err := connection.Channel()
	if err != nil {
		return nil, err
	}
	if err := channel.Confirm(false); err != nil {
		return nil, err
	}
	replyTo := "reply." + client + ".go-1" // one for each machine or process
	_, err = channel.QueueDeclare(replyTo, true, false, false, false, amqp.Table{
		"x-queue-type":       "classic",
		"x-expires":          int64(7 * 24 * 3600 * 1000),
		"x-max-length-bytes": int64(100 * 1024 * 1024),
		"x-overflow":         "reject-publish",
	})
	if err != nil {
		return nil, err
	}
	inbox, err := channel.Consume(replyTo, "", false, true, false, false, nil)
	if err != nil {
		return nil, err
	}
	return &producer{channel, client, replyTo, inbox}, nil
}

// publish returns when the broker has confirmed. Both exchanges take every routing key, so
// mandatory is not needed.
func (p *producer) publish(ctx context.Context, exchange, key string, m amqp.Publishing) error {
	m.UserId, m.ReplyTo, m.DeliveryMode = p.client, p.replyTo, amqp.Persistent
	publish := p.channel.PublishWithDeferredConfirmWithContext
	confirm, err := publish(ctx, exchange, key, false, false, m)
	if err != nil {
		return err
	}
	if !confirm.Wait() { // false too where the channel closes
		return errors.New("not confirmed (is the queue full?): keep it, publish it again later")
	}
	return nil
}

// submit sends a job and asks to be told when it has ended.
func (p *producer) submit(ctx context.Context, jobID, jobType string, body []byte) error {
	return p.publish(ctx, "counterfoil.submit", jobType, amqp.Publishing{
		MessageId:     jobID,
		CorrelationId: jobID,
		ContentType:   "application/json",
		Headers:       amqp.Table{"job-notify": "terminal"},
		Body:          body,
	})
}

// askStatus asks what became of a job; the answer comes on the reply queue.
func (p *producer) askStatus(ctx context.Context, jobID string) error {
	body, err := json.Marshal(map[string]string{"job_id": jobID})
	if err != nil {
		return err
	}
	return p.publish(ctx, "counterfoil.request", "status", amqp.Publishing{
		CorrelationId: jobID,
		ContentType:   "application/json",
		Body:          body,
	})
}

// receive prints what comes for a job until all of some kinds have come, and returns the last
// message of each kind. No order between the kinds is promised. A refusal ends it.
func (p *producer) receive(jobID string, kinds ...string) (map[string]map[string]any, error) {
	came := map[string]map[string]any{}
	for len(came) < len(kinds) && came["refusal"] == nil {
		delivery, isOpen := <-p.inbox
		if !isOpen {
			return nil, errors.New("the channel closed")
		}
		// What is left of an earlier run is passed over; a program that keeps jobs looks them up.
		if delivery.CorrelationId == jobID {
			said := map[string]any{}
			if err := json.Unmarshal(delivery.Body, &said); err != nil {
				return nil, err
			}
			show(delivery.Type, said)
			came[delivery.Type] = said
		}
		if err := delivery.Ack(false); err != nil { // after acting on it, not before
			return nil, err
		}
	}
	return came, nil
}

func show(kind string, said map[string]any) {
	said["kind"] = kind
	line, _ := json.Marshal(said) // what was JSON has a JSON form
	fmt.Println(string(line))
}

// newID makes a random UUID.
func newID() string {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		panic(err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func produce(url, jobType string, body []byte) (int, error) {
	address, err := amqp.ParseURI(url)
	if err != nil {
		return 1, err
	}
	connection, err := amqp.Dial(url)
	if err != nil {
		return 1, err
	}
	defer connection.Close()
	shop, err := open(connection, address.Username)
	if err != nil {
		return 1, err
	}
	jobID := os.Getenv("JOB_ID") // yours: write it down before you send it
	if jobID == "" {
		jobID = newID()
	}
	show("id", map[string]any{"job_id": jobID})
	ctx := context.Background()
	if err := shop.submit(ctx, jobID, jobType, body); err != nil {
		return 1, err
	}
	came, err := shop.receive(jobID, "receipt", "event")
	if err != nil {
		return 1, err
	}
	if came["refusal"] != nil {
		return 3, nil
	}
	if err := shop.askStatus(ctx, jobID); err != nil {
		return 1, err
	}
	if _, err := shop.receive(jobID, "status"); err != nil {
		return 1, err
	}
	if came["event"]["state"] != "succeeded" {
		return 3, nil
	}
	return 0, nil
}

func main() {
	url := os.Getenv("AMQP_URL")
	if url == "" || len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: AMQP_URL=amqp://user:password@host/ producer TYPE BODY")
		os.Exit(2)
	}
	status, err := produce(url, os.Args[1], []byte(os.Args[2]))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}
