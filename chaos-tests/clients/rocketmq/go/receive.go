package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

// A call of a simple consumer asks one queue of one topic, and waits when there is nothing in it.
const loops = 4

// The verb receive.
func receive(options map[string]string) {
	topics := map[string]*rmq.FilterExpression{}
	for _, topic := range strings.Split(options["topic"], ",") {
		topics[topic] = rmq.SUB_ALL
	}
	if options["kind"] == "push" {
		consumer, err := rmq.NewPushConsumer(config(options), rmq.WithPushSubscriptionExpressions(topics),
			rmq.WithPushAwaitDuration(5*time.Second),
			rmq.WithPushMessageListener(&rmq.FuncMessageListener{Consume: func(message *rmq.MessageView) rmq.ConsumerResult {
				received(message)
				return rmq.SUCCESS
			}}))
		check(err)
		check(consumer.Start())
		print("ready")
		waitUntilAsked()
		check(consumer.GracefulStop())
		return
	}
	consumer, err := rmq.NewSimpleConsumer(config(options), rmq.WithSimpleSubscriptionExpressions(topics),
		rmq.WithSimpleAwaitDuration(5*time.Second))
	check(err)
	check(consumer.Start())
	print("ready")
	for range loops {
		go receiveAndAck(consumer)
	}
	waitUntilAsked()
	check(consumer.GracefulStop())
}

func receiveAndAck(consumer rmq.SimpleConsumer) {
	for {
		messages, err := consumer.Receive(context.Background(), 32, 20*time.Second)
		if status, is := rmq.AsErrRpcStatus(err); is && status.GetCode() == int32(v2.Code_MESSAGE_NOT_FOUND) {
			continue
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "receive:", err)
			time.Sleep(500 * time.Millisecond)
		}
		for _, message := range messages {
			received(message)
			ack(consumer, message)
		}
	}
}

func ack(consumer rmq.SimpleConsumer, message *rmq.MessageView) {
	for range 10 {
		err := consumer.Ack(context.Background(), message)
		if err == nil {
			// The library returns no error when the server has refused.
			print("unsure", string(message.GetBody()), nowMs(), message.GetMessageId())
			return
		}
		fmt.Fprintf(os.Stderr, "ack of %s: %v\n", message.GetBody(), err)
		time.Sleep(500 * time.Millisecond)
	}
	print("unsure", string(message.GetBody()), nowMs(), message.GetMessageId())
}

func received(message *rmq.MessageView) {
	print("received", string(message.GetBody()), nowMs(), message.GetMessageId(), message.GetDeliveryAttempt())
}
