package main

import (
	"github.com/IBM/sarama"
)

// consume reads partitions that it names itself, each through a channel of its own.
func consume(t task) error {
	config, err := configure(t)
	if err != nil {
		return err
	}
	config.Consumer.Fetch.Default = recordBytesMax
	config.Consumer.Return.Errors = true
	consumer, err := sarama.NewConsumer([]string{t.Bootstrap}, config)
	if err != nil {
		return err
	}
	// All at once: a message after the last is of no interest, and nobody would take it.
	defer consumer.Close()

	messages := make(chan *sarama.ConsumerMessage)
	for number := range int32(t.Partitions) {
		partition, err := consumer.ConsumePartition(t.Topic, number, sarama.OffsetOldest)
		if err != nil {
			return err
		}
		defer partition.AsyncClose()
		go func() {
			for message := range partition.Messages() {
				messages <- message
			}
		}()
		go func() {
			for err := range partition.Errors() {
				fail(err)
			}
		}()
	}

	var records []record
	for len(records) < t.Count {
		records = append(records, fromKafka(<-messages))
		progress()
	}
	return writeLines(t.Out, records)
}

func fromKafka(message *sarama.ConsumerMessage) record {
	headers := make([]header, 0, len(message.Headers))
	for _, h := range message.Headers {
		headers = append(headers, header{name: string(h.Key), value: h.Value})
	}
	return record{
		Partition: message.Partition,
		Offset:    message.Offset,
		Timestamp: message.Timestamp.UnixMilli(),
		Key:       message.Key,
		Value:     message.Value,
		Headers:   headers,
	}
}
