// franz-go: `produce BOOTSTRAP TOPIC COUNT RATE` or `consume BOOTSTRAP TOPIC GROUP`.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var logger kgo.Opt

func main() {
	seeds := kgo.SeedBrokers(strings.Split(os.Args[2], ",")...)
	logger = kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelInfo, nil))
	if os.Args[1] == "produce" {
		count, err := strconv.Atoi(os.Args[4])
		check(err)
		rate, err := strconv.Atoi(os.Args[5])
		check(err)
		produce(seeds, os.Args[3], count, rate)
	} else {
		consume(seeds, os.Args[3], os.Args[4])
	}
}

func produce(seeds kgo.Opt, topic string, count, rate int) {
	client, err := kgo.NewClient(seeds, logger, kgo.DefaultProduceTopic(topic))
	check(err)
	file, err := os.Create("acked")
	check(err)
	var acked atomic.Int64
	begin := time.Now()
	for number := range count {
		time.Sleep(time.Until(begin.Add(time.Duration(number) * time.Second / time.Duration(rate))))
		// The key spreads a low rate over all partitions.
		record := kgo.KeyStringRecord(strconv.Itoa(number), strconv.Itoa(number))
		client.Produce(context.Background(), record, func(record *kgo.Record, err error) {
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s is not acknowledged: %v\n", record.Value, err)
				return
			}
			acked.Add(1)
			fmt.Fprintln(file, string(record.Value), time.Now().UnixMilli())
		})
	}
	check(client.Flush(context.Background()))
	client.Close()
	fmt.Println("acknowledged", acked.Load())
}

func consume(seeds kgo.Opt, topic, group string) {
	stop, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	// Only what is written is committed.
	client, err := kgo.NewClient(seeds, logger, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	check(err)
	file, err := os.OpenFile("read", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	check(err)
	for stop.Err() == nil {
		fetches := client.PollFetches(stop)
		fetches.EachRecord(func(record *kgo.Record) {
			fmt.Fprintln(file, string(record.Value), record.Partition, record.Offset)
		})
		if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "commit:", err)
		}
	}
	client.Close()
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
