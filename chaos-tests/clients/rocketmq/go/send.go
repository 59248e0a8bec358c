package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

var plans = []string{"commit", "rollback", "check-commit", "check-rollback"}

// The verb send: every message is sent until it is acknowledged.
func send(options map[string]string) {
	kind := options["type"]
	count, err := strconv.Atoi(options["count"])
	check(err)
	rate, err := strconv.Atoi(options["rate"])
	check(err)
	laneCount := 16
	if kind == "fifo" {
		laneCount = 4
	}
	producer, err := rmq.NewProducer(config(options), rmq.WithTopics(options["topic"]),
		rmq.WithTransactionChecker(&rmq.TransactionChecker{Check: checkBack}))
	check(err)
	check(producer.Start())
	print("ready")

	begin := time.Now()
	var lanes sync.WaitGroup
	for lane := range laneCount {
		lanes.Go(func() {
			for number := lane; number < count; number += laneCount {
				time.Sleep(time.Until(begin.Add(time.Duration(number) * time.Second / time.Duration(rate))))
				// The same when it is sent again: what got no answer may be stored.
				due := time.Unix(time.Now().Unix()+3+int64(number%5), 0)
				for {
					err := sendOne(producer, options["topic"], kind, number, laneCount, due)
					if err == nil {
						break
					}
					fmt.Fprintf(os.Stderr, "%s-%d is not acknowledged: %v\n", kind, number, err)
					time.Sleep(500 * time.Millisecond)
				}
			}
		})
	}
	lanes.Wait()
	print("end")
	waitUntilAsked()
	check(producer.GracefulStop())
}

func sendOne(producer rmq.Producer, topic, kind string, number, laneCount int, due time.Time) error {
	id := fmt.Sprintf("%s-%d", kind, number)
	message := &rmq.Message{Topic: topic, Body: []byte(id)}
	message.SetTag(kind)
	message.SetKeys(id)
	var detail any = "-"
	switch kind {
	case "fifo":
		group := fmt.Sprintf("group-%d", number%laneCount)
		message.SetMessageGroup(group)
		detail = group
	case "delay":
		message.SetDelayTimestamp(due)
		detail = due.UnixMilli()
	case "transaction":
		return sendInTransaction(producer, message, id, plans[number%len(plans)])
	}
	receipts, err := producer.Send(context.Background(), message)
	if err != nil {
		return err
	}
	print("sent", id, nowMs(), receipts[0].MessageID, detail)
	return nil
}

func sendInTransaction(producer rmq.Producer, message *rmq.Message, id, plan string) error {
	transaction := producer.BeginTransaction()
	receipts, err := producer.SendWithTransaction(context.Background(), message, transaction)
	if err != nil {
		return err
	}
	print("sent", id, nowMs(), receipts[0].MessageID, plan)
	switch plan {
	case "commit":
		err = transaction.Commit()
	case "rollback":
		err = transaction.RollBack()
	default:
		return nil
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s is left to the check-back: %v\n", id, err)
	} else {
		print("decided", id, nowMs(), plan, "client")
	}
	return nil
}

func checkBack(message *rmq.MessageView) rmq.TransactionResolution {
	id := string(message.GetBody())
	number, err := strconv.Atoi(id[strings.Index(id, "-")+1:])
	check(err)
	if strings.HasSuffix(plans[number%len(plans)], "commit") {
		print("decided", id, nowMs(), "commit", "check")
		return rmq.COMMIT
	}
	print("decided", id, nowMs(), "rollback", "check")
	return rmq.ROLLBACK
}
