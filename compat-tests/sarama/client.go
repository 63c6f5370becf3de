package main

import (
	"fmt"
	"log"
	"os"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// configure makes what all of the client's types are built from. One Config may serve several of them, but not be
// changed any more.
func configure(t task) (*sarama.Config, error) {
	if os.Getenv("DEBUG") != "" {
		sarama.Logger = log.New(os.Stderr, "[sarama] ", log.Lmicroseconds)
		sarama.DebugLogger = sarama.Logger
	}
	config := sarama.NewConfig()
	config.ClientID = "waybill-compat" // The client complains of its default.
	// The newest versions of requests that the client may send; what the broker knows bounds them further. The default
	// is 2.8.
	config.Version = sarama.MaxVersion
	if t.Security.encrypted() {
		tls, err := t.Security.tls()
		if err != nil {
			return nil, err
		}
		config.Net.TLS.Enable = true
		config.Net.TLS.Config = tls
	}
	if t.Security.Mechanism != "" {
		if err := logIn(config, t.Security); err != nil {
			return nil, err
		}
	}
	return config, nil
}

func logIn(config *sarama.Config, s security) error {
	sasl := &config.Net.SASL
	sasl.Enable = true
	sasl.Mechanism = sarama.SASLMechanism(s.Mechanism)
	sasl.User = s.Username
	sasl.Password = s.Password
	switch s.Mechanism {
	case sarama.SASLTypePlaintext:
	case sarama.SASLTypeSCRAMSHA256:
		sasl.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &conversation{hash: scram.SHA256} }
	case sarama.SASLTypeSCRAMSHA512:
		sasl.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &conversation{hash: scram.SHA512} }
	default:
		return fmt.Errorf("no mechanism %q here", s.Mechanism)
	}
	return nil
}

// conversation is what sarama leaves to its users: the steps of SCRAM, of one connection.
type conversation struct {
	*scram.ClientConversation
	hash scram.HashGeneratorFcn
}

func (c *conversation) Begin(username, password, authorization string) error {
	client, err := c.hash.NewClient(username, password, authorization)
	if err != nil {
		return err
	}
	c.ClientConversation = client.NewConversation()
	return nil
}
