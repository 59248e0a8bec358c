// The Go client of RocketMQ 5. The verbs and what they print are in ../README.md.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
)

func main() {
	options := map[string]string{}
	for i := 2; i+1 < len(os.Args); i += 2 {
		options[strings.TrimPrefix(os.Args[i], "--")] = os.Args[i+1]
	}
	rmq.ResetLogger()
	switch os.Args[1] {
	case "send":
		send(options)
	case "receive":
		receive(options)
	default:
		check(fmt.Errorf("no verb %s", os.Args[1]))
	}
}

func config(options map[string]string) *rmq.Config {
	return &rmq.Config{
		Endpoint:      options["endpoints"],
		ConsumerGroup: options["group"],
		Credentials:   &credentials.SessionCredentials{},
	}
}

func waitUntilAsked() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	<-asked
}

// One write per line, so that lines of several goroutines do not mix.
func print(words ...any) { os.Stdout.WriteString(fmt.Sprintln(words...)) }

func nowMs() int64 { return time.Now().UnixMilli() }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
