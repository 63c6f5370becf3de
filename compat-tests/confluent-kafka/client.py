"""confluent-kafka (librdkafka below) against Waybill: one task, given as JSON in the only argument. See ../README.md."""

import base64
import json
import sys
import time

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType

STALL_S = 60
# Room for a record of 10 MB: librdkafka refuses larger ones before it asks a broker.
RECORD_BYTES_MAX = 12_000_000


def main():
    task = json.loads(sys.argv[1])
    {"produce": produce, "consume": consume, "group": group, "admin": admin}[task["do"]](task)


def connection(task, bootstrap=None):
    """What every kind of client needs: where the cluster is and how to log in."""
    settings = {"bootstrap.servers": bootstrap or task["bootstrap"], "error_cb": report}
    security = task.get("security")
    if security:
        settings["security.protocol"] = security["protocol"]
        if "ca" in security:
            settings["ssl.ca.location"] = security["ca"]  # host names are verified by default
        if "mechanism" in security:
            settings["sasl.mechanism"] = security["mechanism"]
            settings["sasl.username"] = security["username"]
            settings["sasl.password"] = security["password"]
    return settings


def report(error):
    """librdkafka goes on trying after every error. With a wrong password or certificate that is of no use: `poll` raises this."""
    if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
        raise KafkaException(error)
    print(f"client error: {error}", file=sys.stderr)


# Produce


def produce(task):
    idempotent = {"enable.idempotence": True} if task.get("idempotent") else {}
    producer = new_producer(task, task["bootstrap"], {"compression.type": task["codec"], **idempotent})
    records = [json.loads(line) for line in open(task["records"])]
    delivered = [None] * len(records)

    def place(index):
        def on_delivery(error, message):
            if error is not None:
                raise KafkaException(error)
            delivered[index] = {"partition": message.partition(), "offset": message.offset()}

        return on_delivery

    for index, record in enumerate(records):
        send(
            producer,
            topic=task["topic"],
            partition=record["partition"],
            timestamp=record["timestamp"],
            key=decoded(record["key"]),
            value=decoded(record["value"]),
            headers=[(name, decoded(value)) for name, value in record["headers"]],
            on_delivery=place(index),
        )
    flush(producer)
    write_lines(task["out"], delivered)


def new_producer(task, bootstrap, settings=None):
    return Producer({**connection(task, bootstrap), "acks": "all", "message.max.bytes": RECORD_BYTES_MAX, **(settings or {})})


def send(producer, **record):
    """`produce` only puts the record into a local queue; a full queue is a BufferError, and `poll` makes room."""
    waited = Stall("room in the producer's queue")
    while True:
        try:
            producer.produce(**record)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.5)
            waited.check()


def flush(producer):
    outstanding, stall = len(producer), Stall("acknowledgements")
    while outstanding:
        left = producer.flush(1.0)
        if left < outstanding:
            outstanding, stall = left, Stall("acknowledgements")
        stall.check()


# Consume


def consume(task):
    # The client wants a group id even if nothing joins or commits: partitions that are assigned by hand need no group.
    consumer = new_consumer(task, "unused")
    consumer.assign([TopicPartition(task["topic"], partition, OFFSET_BEGINNING) for partition in range(task["partitions"])])
    lines, stall = [], Stall("the first record")
    while len(lines) < task["count"]:
        message = next_message(consumer, timeout_s=1.0)
        if message is None:
            stall.check()
            continue
        lines.append(
            {
                "partition": message.partition(),
                "offset": message.offset(),
                "timestamp": message.timestamp()[1],
                "key": encoded(message.key()),
                "value": encoded(message.value()),
                "headers": [[name, encoded(value)] for name, value in message.headers() or []],
            }
        )
        stall = Stall(f"more than {len(lines)} of {task['count']} records")
    consumer.close()
    write_lines(task["out"], lines)


def new_consumer(task, group_id):
    return Consumer(
        {
            **connection(task),
            "group.id": group_id,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "max.partition.fetch.bytes": RECORD_BYTES_MAX,
        }
    )


def next_message(consumer, timeout_s):
    message = consumer.poll(timeout_s)
    if message is not None and message.error():
        raise KafkaException(message.error())
    return message


# Group


def group(task):
    topic, partitions, count = task["topic"], task["partitions"], task["count"]
    producer = new_producer(task, task["produce_bootstrap"])

    def produce_numbers(numbers):
        for number in numbers:
            send(producer, topic=topic, partition=number % partitions, value=str(number).encode())
        flush(producer)

    produce_numbers(range(count))
    first = Member(task)
    alone = first.read
    poll_until([first], lambda: seen(alone) == count, "the first member's records")
    result = {"first": first.partitions()}
    first.commit()

    second = Member(task)
    first.read = shared_first = []
    poll_until([first, second], lambda: divided([first, second], partitions), "both members to have partitions")
    result["shared"] = [first.partitions(), second.partitions()]
    produce_numbers(range(count, 2 * count))
    poll_until([first, second], lambda: seen(shared_first, second.read) == count, "the records of both members")
    first.commit()
    second.commit()

    second.consumer.close()  # leaves the group
    first.read = after = []
    poll_until([first], lambda: divided([first], partitions), "the first member to have all partitions")
    result["after"] = first.partitions()
    produce_numbers(range(2 * count, 3 * count))
    poll_until([first], lambda: seen(after) == count, "the last records")
    first.commit()
    first.consumer.close()
    write_lines(task["out"], [{**result, "read": [alone, shared_first, second.read, after]}])


class Member:
    """A consumer in the group, and the numbers that it was given since the list was last replaced."""

    def __init__(self, task):
        self.consumer = new_consumer(task, task["group"])
        self.consumer.subscribe([task["topic"]])
        self.read = []

    def partitions(self):
        return sorted(each.partition for each in self.consumer.assignment())

    def commit(self):
        self.consumer.commit(asynchronous=False)

    def poll(self):
        """One call of the client: it also carries the member through rebalances, so every member is polled all the time."""
        message = next_message(self.consumer, timeout_s=0.02)
        if message is None:
            return False
        self.read.append(int(message.value()))
        return True


def poll_until(members, done, what):
    stall = Stall(what)
    while not done():
        if any([member.poll() for member in members]):
            stall = Stall(what)
        stall.check()


def seen(*reads):
    """How many different numbers have come."""
    return len(set().union(*reads))


def divided(members, partitions):
    """Whether every member has partitions, and together each one once."""
    held = [member.partitions() for member in members]
    return all(held) and sorted(sum(held, [])) == list(range(partitions))


# Admin


def admin(task):
    client, topic, group_id = AdminClient(connection(task)), task["topic"], task["group"]
    out = {}
    new_topic = NewTopic(topic, num_partitions=task["partitions"], replication_factor=1, config=task["config"])
    only(client.create_topics([new_topic]))
    out["created"] = True
    try:
        only(client.create_topics([new_topic]))
    except KafkaException as refused:
        out["created_again"] = refused.args[0].code()

    cluster = client.list_topics(timeout=STALL_S)
    out["listed"] = topic in cluster.topics
    out["partitions"] = len(cluster.topics[topic].partitions)
    out["nodes"] = len(client.describe_cluster().result(STALL_S).nodes)
    described = only(client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))
    out["config"] = {key: described[key].value for key in task["config"]}
    out["earliest"] = offsets(client, task, OffsetSpec.earliest())
    out["latest"] = offsets(client, task, OffsetSpec.latest())

    listing = client.list_consumer_groups().result(STALL_S)
    if listing.errors:
        raise listing.errors[0]
    out["groups"] = group_id in [each.group_id for each in listing.valid]
    state = only(client.describe_consumer_groups([group_id])).state
    out["group_state"] = state.name.title().replace("_", "")  # PREPARING_REBALANCING and the like: Python's names for them
    committed = only(client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group_id)])).topic_partitions
    out["group_offsets"] = {str(each.partition): each.offset for each in committed}
    only(client.delete_consumer_groups([group_id]))
    out["group_deleted"] = True

    only(client.delete_topics([topic]))
    out["deleted"] = True
    stall = Stall("the topic to be gone")
    while topic in client.list_topics(timeout=STALL_S).topics:
        stall.check()
        time.sleep(0.1)
    out["gone"] = True
    write_lines(task["out"], [out])


def only(futures):
    """Every call of the admin client takes several things and gives a future for each; here it is always one."""
    (future,) = futures.values()
    return future.result(STALL_S)


def offsets(client, task, spec):
    asked = [TopicPartition(task["topic"], partition) for partition in range(task["partitions"])]
    answers = client.list_offsets({partition: spec for partition in asked})
    return [answers[partition].result(STALL_S).offset for partition in asked]


# Small things


class Stall:
    """A limit on waiting without progress."""

    def __init__(self, what):
        self.what, self.deadline = what, time.monotonic() + STALL_S

    def check(self):
        if time.monotonic() > self.deadline:
            raise TimeoutError(f"no progress in {STALL_S} s: waiting for {self.what}")


def decoded(text):
    return None if text is None else base64.b64decode(text)


def encoded(data):
    return None if data is None else base64.b64encode(data).decode()


def write_lines(path, items):
    with open(path, "w") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)


if __name__ == "__main__":
    main()
