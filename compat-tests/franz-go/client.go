package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// clock begins each line of the client's log.
func clock() string {
	return time.Now().Format("15:04:05.000 ")
}

// connect makes a client: one type produces, consumes and administers, and its options say which.
func connect(t task, options ...kgo.Opt) (*kgo.Client, error) {
	level := kgo.LogLevelWarn
	if os.Getenv("DEBUG") != "" {
		level = kgo.LogLevelDebug
	}
	options = append(options,
		kgo.SeedBrokers(t.Bootstrap),
		kgo.WithLogger(kgo.BasicLogger(os.Stderr, level, clock)),
	)
	if t.Security.encrypted() {
		// The name to be verified is filled in for each broker.
		config, err := t.Security.tls()
		if err != nil {
			return nil, err
		}
		options = append(options, kgo.DialTLSConfig(config))
	}
	switch t.Security.Mechanism {
	case "":
	case "PLAIN":
		login := plain.Auth{User: t.Security.Username, Pass: t.Security.Password}
		options = append(options, kgo.SASL(login.AsMechanism()))
	case "SCRAM-SHA-256":
		login := scram.Auth{User: t.Security.Username, Pass: t.Security.Password}
		options = append(options, kgo.SASL(login.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		login := scram.Auth{User: t.Security.Username, Pass: t.Security.Password}
		options = append(options, kgo.SASL(login.AsSha512Mechanism()))
	default:
		return nil, fmt.Errorf("no mechanism %q here", t.Security.Mechanism)
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	// Nothing has been sent yet, and a client goes on trying for ever: a wrong password or certificate shows here.
	ctx, cancel := context.WithTimeout(context.Background(), patience/4)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("first contact: %w", err)
	}
	return client, nil
}
