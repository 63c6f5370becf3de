package main

import (
	"crypto/tls"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// The client has two ways to a broker, with a codec each: a Writer and a Client go through a Transport, which shares
// connections; a Reader and a ConsumerGroup through a Dialer.

func transport(t task) (*kafka.Transport, error) {
	tls, mechanism, err := credentials(t.Security)
	if err != nil {
		return nil, err
	}
	return &kafka.Transport{TLS: tls, SASL: mechanism}, nil
}

func dialer(t task) (*kafka.Dialer, error) {
	tls, mechanism, err := credentials(t.Security)
	if err != nil {
		return nil, err
	}
	return &kafka.Dialer{Timeout: 10 * time.Second, DualStack: true, TLS: tls, SASLMechanism: mechanism}, nil
}

// credentials are nil where none are needed.
func credentials(s security) (config *tls.Config, mechanism sasl.Mechanism, err error) {
	if s.encrypted() {
		if config, err = s.tls(); err != nil {
			return nil, nil, err
		}
	}
	switch s.Mechanism {
	case "":
	case "PLAIN":
		mechanism = plain.Mechanism{Username: s.Username, Password: s.Password}
	case "SCRAM-SHA-256":
		mechanism, err = scram.Mechanism(scram.SHA256, s.Username, s.Password)
	case "SCRAM-SHA-512":
		mechanism, err = scram.Mechanism(scram.SHA512, s.Username, s.Password)
	default:
		err = fmt.Errorf("no mechanism %q here", s.Mechanism)
	}
	return config, mechanism, err
}

// errorLogger gets what the client retries by itself.
var errorLogger = log.New(os.Stderr, "[error] ", log.Lmicroseconds)

// infoLogger gets the rest, if it is wanted.
func infoLogger() kafka.Logger {
	if os.Getenv("DEBUG") == "" {
		return nil
	}
	return log.New(os.Stderr, "[info] ", log.Lmicroseconds)
}
