"""kafka-python against Waybill: one task, given as JSON in the only argument. See ../README.md."""

import base64
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import TopicAlreadyExistsError

STALL_S = 60
# Room for a record of 10 MB: the producer refuses larger ones before it asks a broker.
RECORD_BYTES_MAX = 12_000_000


def main():
    task = json.loads(sys.argv[1])
    {"produce": produce, "consume": consume, "group": group, "admin": admin}[task["do"]](task)


def connection(task, bootstrap=None):
    """What every kind of client needs: where the cluster is and how to log in."""
    settings = {"bootstrap_servers": bootstrap or task["bootstrap"]}
    security = task.get("security")
    if security:
        settings["security_protocol"] = security["protocol"]
        if "ca" in security:
            settings["ssl_cafile"] = security["ca"]  # host names are verified by default
        if "mechanism" in security:
            settings["sasl_mechanism"] = security["mechanism"]
            settings["sasl_plain_username"] = security["username"]  # for SCRAM too
            settings["sasl_plain_password"] = security["password"]
    return settings


# Produce


def produce(task):
    # `send` takes no header without a value, and no record without both key and value: it raises.
    codec = None if task["codec"] == "none" else task["codec"]
    producer = new_producer(task, task["bootstrap"], codec, task.get("idempotent", False))
    futures = []
    for line in open(task["records"]):
        record = json.loads(line)
        futures.append(
            producer.send(
                task["topic"],
                partition=record["partition"],
                timestamp_ms=record["timestamp"],
                key=decoded(record["key"]),
                value=decoded(record["value"]),
                headers=[(name, decoded(value)) for name, value in record["headers"]],
            )
        )
    delivered = [future.get(timeout=STALL_S) for future in futures]
    producer.close()
    write_lines(task["out"], [{"partition": each.partition, "offset": each.offset} for each in delivered])


def new_producer(task, bootstrap, codec=None, idempotent=False):
    return KafkaProducer(
        **connection(task, bootstrap),
        acks="all",
        compression_type=codec,
        enable_idempotence=idempotent,
        max_request_size=RECORD_BYTES_MAX,
    )


# Consume


def consume(task):
    consumer = new_consumer(task)
    partitions = [TopicPartition(task["topic"], partition) for partition in range(task["partitions"])]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    lines, stall = [], Stall("the first record")
    while len(lines) < task["count"]:
        for record in next_records(consumer, timeout_ms=1000):
            lines.append(
                {
                    "partition": record.partition,
                    "offset": record.offset,
                    "timestamp": record.timestamp,
                    "key": encoded(record.key),
                    "value": encoded(record.value),
                    "headers": [[name, encoded(value)] for name, value in record.headers],
                }
            )
            stall = Stall(f"more than {len(lines)} of {task['count']} records")
        stall.check()
    consumer.close()
    write_lines(task["out"], lines)


def new_consumer(task, group_id=None):
    return KafkaConsumer(
        **connection(task),
        group_id=group_id,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=RECORD_BYTES_MAX,
    )


def next_records(consumer, timeout_ms):
    by_partition = consumer.poll(timeout_ms=timeout_ms)
    return [record for records in by_partition.values() for record in records]


# Group


def group(task):
    topic, partitions, count = task["topic"], task["partitions"], task["count"]
    producer = new_producer(task, task["produce_bootstrap"])

    def produce_numbers(numbers):
        futures = [producer.send(topic, str(number).encode(), partition=number % partitions) for number in numbers]
        for future in futures:
            future.get(timeout=STALL_S)

    def share(member):
        return len(member.partitions()) * count // partitions

    # One thread for each member, as in an application: `poll` carries a member through a rebalance, and may not return in the
    # middle of it. If it does, between the answers to JoinGroup and SyncGroup, kafka-python 3.0 forgets the assignment.
    with ThreadPoolExecutor(max_workers=2) as threads:
        produce_numbers(range(count))
        first = Member(task)
        threads.submit(first.take, lambda: count).result()
        alone, first.read = first.read, []
        result = {"first": first.partitions()}

        second = Member(task)
        takes = [threads.submit(member.take, partial(share, member)) for member in (first, second)]
        wait_until(lambda: divided([first, second], partitions), takes, "both members to have partitions")
        result["shared"] = [first.partitions(), second.partitions()]
        produce_numbers(range(count, 2 * count))
        for take in takes:
            take.result()
        shared_first, first.read = first.read, []

        second.consumer.close()  # leaves the group
        take = threads.submit(first.take, lambda: count)
        wait_until(lambda: divided([first], partitions), [take], "the first member to have all partitions")
        result["after"] = first.partitions()
        produce_numbers(range(2 * count, 3 * count))
        take.result()
    first.consumer.close()
    producer.close()
    write_lines(task["out"], [{**result, "read": [alone, shared_first, second.read, first.read]}])


class Member:
    """A consumer in the group, and the numbers that it was given since the list was last replaced."""

    def __init__(self, task):
        self.consumer = new_consumer(task, task["group"])
        self.consumer.subscribe([task["topic"]])
        self.read = []

    def partitions(self):
        return sorted(each.partition for each in self.consumer.assignment())

    def take(self, expected):
        """Reads until as many different numbers have come as are expected by then, and commits."""
        while not self.read or len(set(self.read)) < expected():
            records = next_records(self.consumer, timeout_ms=STALL_S * 1000)
            if not records:
                raise TimeoutError(f"no records in {STALL_S} s, after {len(self.read)}")
            self.read.extend(int(record.value) for record in records)
        self.consumer.commit()


def wait_until(done, takes, what):
    stall = Stall(what)
    while not done():
        for take in takes:
            if take.done():
                take.result()  # raises what ended it early
        stall.check()
        time.sleep(0.02)


def divided(members, partitions):
    """Whether every member has partitions, and together each one once."""
    held = [member.partitions() for member in members]
    return all(held) and sorted(sum(held, [])) == list(range(partitions))


# Admin


def admin(task):
    client, topic, group_id = KafkaAdminClient(**connection(task)), task["topic"], task["group"]
    out = {}
    new_topic = {topic: {"num_partitions": task["partitions"], "replication_factor": 1, "configs": task["config"]}}
    client.create_topics(new_topic)
    out["created"] = True
    try:
        client.create_topics(new_topic)
    except TopicAlreadyExistsError as refused:
        out["created_again"] = refused.errno

    out["listed"] = topic in client.list_topics()
    (described,) = client.describe_topics([topic])
    out["partitions"] = len(described["partitions"])
    out["nodes"] = len(client.describe_cluster()["brokers"])
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    config = client.describe_configs([resource])["topic"][topic]
    out["config"] = {key: config[key]["value"] for key in task["config"]}
    out["earliest"] = offsets(client, task, OffsetSpec.EARLIEST)
    out["latest"] = offsets(client, task, OffsetSpec.LATEST)

    out["groups"] = group_id in [each["group_id"] for each in client.list_groups()]
    out["group_state"] = client.describe_groups([group_id])[group_id]["group_state"]
    committed = client.list_group_offsets(group_id)[group_id]
    out["group_offsets"] = {str(partition.partition): at.offset for partition, at in committed.items()}
    out["group_deleted"] = client.delete_groups([group_id]) == {group_id: "OK"}

    client.delete_topics([topic])
    out["deleted"] = True
    stall = Stall("the topic to be gone")
    while topic in client.list_topics():
        stall.check()
        time.sleep(0.1)
    out["gone"] = True
    client.close()
    write_lines(task["out"], [out])


def offsets(client, task, spec):
    asked = [TopicPartition(task["topic"], partition) for partition in range(task["partitions"])]
    answers = client.list_partition_offsets({partition: spec for partition in asked})
    return [answers[partition].offset for partition in asked]


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
