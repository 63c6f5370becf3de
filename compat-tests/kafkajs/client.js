// kafkajs against Waybill: one task, given as JSON in the only argument. See ../README.md.
'use strict'

const fs = require('node:fs')
const { setTimeout: sleep } = require('node:timers/promises')
const fzstd = require('fzstd')
const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, Partitioners, logLevel } = require('kafkajs')
const SnappyCodec = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')

const STALL_MS = 60_000
// Room for a record of 10 MB.
const RECORD_BYTES_MAX = 12_000_000

// kafkajs brings gzip alone; the other codecs are plugged in. Frames of unknown size need a streaming zstd decoder: fzstd.
CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(fzstd.decompress(buffer)),
})
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

async function main() {
  const task = JSON.parse(process.argv[2])
  await { produce, consume, group, admin }[task.do](task)
}

/** What every kind of client comes from: where the cluster is and how to log in. */
function connect(task, bootstrap = task.bootstrap) {
  const settings = { clientId: 'compat', brokers: [bootstrap], logLevel: logLevel.WARN }
  const { security } = task
  if (security?.ca) {
    settings.ssl = { ca: [fs.readFileSync(security.ca)] } // host names are verified by default
  }
  if (security?.mechanism) {
    const { mechanism, username, password } = security
    settings.sasl = { mechanism: mechanism.toLowerCase(), username, password }
  }
  return new Kafka(settings)
}

// Produce

async function produce(task) {
  const producer = newProducer(connect(task), task.idempotent)
  await producer.connect()
  const records = readLines(task.records)
  const delivered = []
  for (const chunk of chunks(records)) {
    const messages = chunk.map(({ partition, timestamp, key, value, headers }) => ({
      partition,
      timestamp: String(timestamp),
      key: decoded(key),
      value: decoded(value),
      headers: headersObject(headers),
    }))
    const sent = producer.send({ topic: task.topic, acks: -1, compression: CODECS[task.codec], messages })
    delivered.push(...offsetsOf(chunk, await within(sent, 'an acknowledgement')))
  }
  await producer.disconnect()
  writeLines(task.out, delivered)
}

function newProducer(kafka, idempotent = false) {
  // The default partitioner takes a message's own `partition` where it has one.
  return kafka.producer({ idempotent, createPartitioner: Partitioners.DefaultPartitioner })
}

/** One `send` makes one batch for each partition: no more goes into it than a broker takes by default. */
function* chunks(records, limit = 500_000) {
  let chunk = []
  let size = 0
  for (const record of records) {
    const added = JSON.stringify(record).length
    if (chunk.length > 0 && size + added > limit) {
      yield chunk
      chunk = []
      size = 0
    }
    chunk.push(record)
    size += added
  }
  if (chunk.length > 0) yield chunk
}

/** kafkajs tells the first offset for each partition of a `send`; the others follow in the order of its messages. */
function offsetsOf(chunk, answers) {
  const next = new Map(answers.map(({ partition, baseOffset }) => [partition, Number(baseOffset)]))
  return chunk.map(({ partition }) => {
    const offset = next.get(partition)
    next.set(partition, offset + 1)
    return { partition, offset }
  })
}

/** Headers are an object here: values of one name become an array, in the place of the first of them. None can be null. */
function headersObject(pairs) {
  const headers = {}
  for (const [name, value] of pairs) {
    headers[name] = name in headers ? [headers[name], decoded(value)].flat() : decoded(value)
  }
  return headers
}

function headerPairs(headers) {
  return Object.entries(headers).flatMap(([name, values]) => [values].flat().map(value => [name, encoded(value)]))
}

// Consume

async function consume(task) {
  // Every consumer of kafkajs is a member of a group: this one is alone in its own, and commits nothing.
  const consumer = newConsumer(connect(task), `alone-${process.pid}-${Date.now()}`)
  const lines = []
  await consumer.connect()
  await consumer.subscribe({ topic: task.topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      if (lines.length === task.count) return
      lines.push({
        partition,
        offset: Number(message.offset),
        timestamp: Number(message.timestamp),
        key: encoded(message.key),
        value: encoded(message.value),
        headers: headerPairs(message.headers),
      })
    },
  })
  await until(() => lines.length === task.count, 'all records', () => lines.length)
  await consumer.disconnect()
  writeLines(task.out, lines)
}

function newConsumer(kafka, groupId) {
  return kafka.consumer({
    groupId,
    maxBytesPerPartition: RECORD_BYTES_MAX,
    // Heartbeats go out between fetches only: a long wait for records is a late answer to a rebalance.
    maxWaitTimeInMs: 500,
    heartbeatInterval: 1000,
  })
}

// Group

async function group(task) {
  const { topic, partitions, count } = task
  const producer = newProducer(connect(task, task.produce_bootstrap))
  await producer.connect()
  const produceNumbers = async (from, to) => {
    const messages = []
    for (let number = from; number < to; number++) {
      messages.push({ partition: number % partitions, value: String(number) })
    }
    await within(producer.send({ topic, acks: -1, messages }), 'an acknowledgement')
  }

  await produceNumbers(0, count)
  const first = await Member.join(task)
  const alone = first.read
  await until(() => seen(alone) === count, "the first member's records", () => alone.length)
  const result = { first: first.partitions }
  await first.commit()

  const sharedFirst = (first.read = [])
  const second = await Member.join(task)
  await until(() => divided([first, second], partitions), 'both members to have partitions')
  result.shared = [first.partitions, second.partitions]
  await produceNumbers(count, 2 * count)
  const both = () => seen(sharedFirst, second.read)
  await until(() => both() === count, 'the records of both members', both)
  await first.commit()
  await second.commit()

  const after = (first.read = [])
  await second.consumer.disconnect() // leaves the group
  await until(() => divided([first], partitions), 'the first member to have all partitions')
  result.after = first.partitions
  await produceNumbers(2 * count, 3 * count)
  await until(() => seen(after) === count, 'the last records', () => after.length)
  await first.commit()
  await first.consumer.disconnect()
  await producer.disconnect()
  writeLines(task.out, [{ ...result, read: [alone, sharedFirst, second.read, after] }])
}

/** A consumer in the group, the partitions it has, and the numbers that it was given since the list was last replaced. */
class Member {
  partitions = []
  read = []
  #next = new Map()

  static async join(task) {
    const member = new Member()
    member.topic = task.topic
    member.consumer = newConsumer(connect(task), task.group)
    const { GROUP_JOIN, REBALANCING } = member.consumer.events
    member.consumer.on(GROUP_JOIN, ({ payload }) => {
      member.partitions = (payload.memberAssignment[task.topic] ?? []).sort((a, b) => a - b)
    })
    member.consumer.on(REBALANCING, () => {
      member.partitions = []
    })
    await member.consumer.connect()
    await member.consumer.subscribe({ topic: task.topic, fromBeginning: true })
    await member.consumer.run({ autoCommit: false, eachMessage: async each => member.#take(each) })
    return member
  }

  #take({ partition, message }) {
    this.read.push(Number(message.value))
    this.#next.set(partition, BigInt(message.offset) + 1n)
  }

  /** Without automatic commits, offsets are named one by one. */
  async commit() {
    const held = this.partitions.filter(partition => this.#next.has(partition))
    await this.consumer.commitOffsets(
      held.map(partition => ({ topic: this.topic, partition, offset: String(this.#next.get(partition)) })),
    )
  }
}

/** How many different numbers have come. */
function seen(...reads) {
  return new Set(reads.flat()).size
}

/** Whether every member has partitions, and together each one once. */
function divided(members, partitions) {
  const held = members.map(member => member.partitions)
  const all = held.flat().sort((a, b) => a - b)
  return held.every(each => each.length > 0) && all.length === partitions && all.every((each, index) => each === index)
}

// Admin

/** `createTopics` answers `false` for a topic that exists and never tells the code: `created_again` is left out. */
async function admin(task) {
  const { topic, partitions, group: groupId } = task
  const client = connect(task).admin()
  await client.connect()
  const out = {}
  const configEntries = Object.entries(task.config).map(([name, value]) => ({ name, value }))
  const topics = [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries }]
  out.created = await client.createTopics({ topics })
  if (await client.createTopics({ topics })) throw new Error('the topic was created twice')

  out.listed = (await client.listTopics()).includes(topic)
  const metadata = await client.fetchTopicMetadata({ topics: [topic] })
  out.partitions = metadata.topics[0].partitions.length
  out.nodes = (await client.describeCluster()).brokers.length
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic, configNames: Object.keys(task.config) }
  const described = await client.describeConfigs({ resources: [resource], includeSynonyms: false })
  out.config = Object.fromEntries(
    described.resources[0].configEntries.map(({ configName, configValue }) => [configName, configValue]),
  )
  const offsets = (await client.fetchTopicOffsets(topic)).sort((a, b) => a.partition - b.partition)
  out.earliest = offsets.map(({ low }) => Number(low))
  out.latest = offsets.map(({ high }) => Number(high))

  out.groups = (await client.listGroups()).groups.some(each => each.groupId === groupId)
  out.group_state = (await client.describeGroups([groupId])).groups[0].state
  const committed = (await client.fetchOffsets({ groupId })).flatMap(each => each.partitions)
  out.group_offsets = Object.fromEntries(committed.map(({ partition, offset }) => [partition, Number(offset)]))
  await client.deleteGroups([groupId]) // throws if a group could not be deleted
  out.group_deleted = true

  await client.deleteTopics({ topics: [topic] })
  out.deleted = true
  const stall = stallAfter('the topic to be gone')
  while ((await client.listTopics()).includes(topic)) {
    stall()
    await sleep(100)
  }
  out.gone = true
  await client.disconnect()
  writeLines(task.out, [out])
}

// Small things

/** Waits for a condition; the limit counts from the last change of `progress`. */
async function until(done, what, progress = () => 0) {
  let stall = stallAfter(what)
  for (let last = progress(); !done(); await sleep(20)) {
    if (progress() !== last) {
      last = progress()
      stall = stallAfter(what)
    }
    stall()
  }
}

function stallAfter(what) {
  const deadline = Date.now() + STALL_MS
  return () => {
    if (Date.now() > deadline) throw new Error(`no progress in ${STALL_MS} ms: waiting for ${what}`)
  }
}

async function within(promise, what) {
  const limit = new AbortController()
  const late = sleep(STALL_MS, null, { signal: limit.signal }).then(() => {
    throw new Error(`no progress in ${STALL_MS} ms: waiting for ${what}`)
  })
  late.catch(() => {}) // the abort below is no failure
  try {
    return await Promise.race([promise, late])
  } finally {
    limit.abort()
  }
}

function decoded(text) {
  return text === null ? null : Buffer.from(text, 'base64')
}

function encoded(data) {
  return data === null ? null : data.toString('base64')
}

function readLines(path) {
  return fs.readFileSync(path, 'utf8').split('\n').filter(Boolean).map(line => JSON.parse(line))
}

function writeLines(path, items) {
  fs.writeFileSync(path, items.map(item => JSON.stringify(item) + '\n').join(''))
}

zstd.init().then(main).catch(error => {
  console.error(error)
  process.exit(1) // open connections would keep the process alive
})
