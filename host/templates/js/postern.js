// Between the contract (wit/policy.wit) and a policy: what it is asked with, and short ways to answer.
import { annotate, count, lookAround, spend } from 'postern:policy/host@0.2.0';

/** Nothing against it. */
export const allow = () => ({ tag: 'allow' });

/** Refuses it, with a reason the caller sees, and what to do instead. From onObject: the object is hidden. */
export const block = (reason, hint) => ({ tag: 'block', val: { reason, hint } });

/** Ends an answer before the object that onObject was asked about. */
export const terminate = (reason, hint) => ({ tag: 'terminate', val: { reason, hint } });

/** Asks for the approval of members of these groups. */
export const requireApproval = (reason, approvers, { required = 1, validSeconds = 3600 } = {}) => ({
  tag: 'require-approval',
  val: { reason, approvers, required, validSeconds },
});

/** What is hidden, redacted unless a method says how it is written; each method gives another mask. */
class Mask {
  #what;
  #how;
  #conditions;
  constructor(what, how = { tag: 'redact' }, conditions = []) {
    [this.#what, this.#how, this.#conditions] = [what, how, conditions];
  }
  /** Written as a keyed token: equal values of one object are equal tokens. */
  tokenize() {
    return new Mask(this.#what, { tag: 'tokenize' }, this.#conditions);
  }
  /** Its last characters are left, so many of them. */
  keepLast(characters) {
    return new Mask(this.#what, { tag: 'keep-last', val: characters }, this.#conditions);
  }
  /** Left out. */
  remove() {
    return new Mask(this.#what, { tag: 'remove' }, this.#conditions);
  }
  /** Only on objects in which a field has this value: text as it is, anything else as JSON writes it. */
  when(path, value) {
    return this.#also({ path, is: 'equal', value });
  }
  /** Only on objects in which it has another, or none. */
  unless(path, value) {
    return this.#also({ path, is: 'not-equal', value });
  }
  #also(condition) {
    return new Mask(this.#what, this.#how, [...this.#conditions, condition]);
  }
  asContract() {
    return { what: this.#what, how: this.#how, when: this.#conditions };
  }
}

/** Hides what these name; none of them is `allow()`. */
export const mask = (...masks) => (masks.length ? { tag: 'mask', val: masks.map((one) => one.asContract()) } : allow());

/** A field in every object, by JSONPath. */
export const field = (path) => new Mask({ tag: 'field', val: path });

/** What a regular expression matches, in text streams and in the text of objects. */
export const pattern = (regex) => new Mask({ tag: 'text', val: regex });

/** The values of the Secrets the addressed pod uses, in what its containers write. */
export const podSecrets = () => new Mask({ tag: 'pod-secrets' });

/** Sends a piece of a stream on as it is. */
export const forward = () => ({ tag: 'forward' });

/** Sends this in its place: a Uint8Array. */
export const replace = (data) => ({ tag: 'replace', val: data });

/** Ends the stream, and the caller is told why. */
export const endStream = (reason, hint) => ({ tag: 'terminate', val: { reason, hint } });

const json = (values) => listed(values).map((value) => JSON.stringify(value));

/** What is no array fits nothing, and nobody would be told. */
const listed = (anyOf) => {
  if (!Array.isArray(anyOf)) throw new TypeError('an array is expected of what is asked about');
  return anyOf;
};

/** Asks about a list, a part of a long one at a time; an empty one fits nothing, and is not asked about. */
const first = (anyOf, ask) => {
  listed(anyOf);
  for (let begin = 0; begin < anyOf.length; begin += 1000) {
    const found = ask(anyOf.slice(begin, begin + 1000));
    if (found !== undefined) return begin + found;
  }
  return undefined;
};

/** Who asks. Each thing that is read of it is a question to the host: what is not asked decides nothing. */
class Caller {
  #operation;
  constructor(operation) {
    this.#operation = operation;
  }
  /** The name of the caller, used for audit and for Kubernetes. */
  get username() {
    return this.#operation.get('username') ?? '';
  }
  /** The verified issuer of the caller's credential. */
  get issuer() {
    return this.#operation.get('issuer') ?? '';
  }
  /** The groups that the caller's claims or certificate give. isIn says less. */
  get groups() {
    return this.#operation.groups();
  }
  /** All verified claims of the caller's token, as [name, JSON text]. */
  get claims() {
    return this.#operation.claims();
  }
  /** Whether the caller is in one of these groups. */
  isIn(groups) {
    return this.groupOf(groups) !== undefined;
  }
  /** Which of these groups the caller is in, the first of them. */
  groupOf(groups) {
    return first(groups, (part) => this.#operation.inGroups(part));
  }
  /** A verified claim of the caller's token; none of one that the token has twice. */
  claim(name) {
    const found = this.#operation.claim(name);
    return found === undefined ? undefined : JSON.parse(found);
  }
  /** Which of these values a claim is. */
  claimIs(name, anyOf) {
    return first(json(anyOf), (part) => this.#operation.claimIs(name, part));
  }
  /** Which of these values a claim that is a list has, the first of them. */
  claimHas(name, anyOf) {
    return first(json(anyOf), (part) => this.#operation.claimHas(name, part));
  }
}

/** An operation, its body, and what the host offers. Each thing that is read of it is a question to the host: tests say less than values. */
class Request {
  #operation;
  constructor(operation, body) {
    this.#operation = operation;
    this.caller = new Caller(operation);
    this.body = body && new Document(body);
  }
  /** Whether a text is one of these: verb, kind ('pods/exec'), resource, subresource, api-group, api-version, namespace, name, place ('NAMESPACE/NAME'), path,
   * cluster, username, issuer, container. */
  is(what, anyOf) {
    return this.which(what, anyOf) !== undefined;
  }
  /** Which of these a text is. */
  which(what, anyOf) {
    return first(anyOf, (part) => this.#operation.is(what, part));
  }
  /** The first of these that a text matches: '*' stands for any characters, for none and for '/' too. */
  like(what, globs) {
    return first(globs, (part) => this.#operation.like(what, part));
  }
  /** Whether there is such a text. */
  has(what) {
    return this.#operation.has(what);
  }
  /** A text, or none. */
  get(what) {
    return this.#operation.get(what);
  }
  /** 'get', 'list', 'create', 'delete'; a lower-case HTTP method where no resource is addressed. */
  get verb() {
    return this.get('verb') ?? '';
  }
  /** `pods`, `pods/exec`; empty where no resource is addressed. */
  get resource() {
    return this.get('kind') ?? '';
  }
  /** What was in contract 0.1. Of what is not there a policy would know nothing, and let pass. */
  get target() {
    throw new TypeError("there is no target: ask has('kind'), namespace, objectName, get('resource'), get('api-group')");
  }
  get namespace() {
    return this.get('namespace');
  }
  get objectName() {
    return this.get('name');
  }
  /** The normalised path. */
  get path() {
    return this.get('path') ?? '';
  }
  /** The name that the gateway's configuration gives the cluster. */
  get cluster() {
    return this.get('cluster') ?? '';
  }
  /** Whether kube-apiserver is asked to change nothing, and would obey. */
  get dryRun() {
    return this.#operation.dryRun();
  }
  /** Whether approvals were asked for, and given: in onObject and onChunk of an operation that waited. */
  get approved() {
    return this.#operation.approved();
  }
  /** Whether it opens a stream into a container. */
  get isCommand() {
    return this.#operation.isCommand();
  }
  /** What opens a stream into a container: container, argv, stdin, tty; none for everything but exec and attach. */
  get command() {
    return this.#operation.command();
  }
  /** When the gateway accepted the request, in Unix milliseconds. `at` says less. */
  get receivedAt() {
    return Number(this.#operation.receivedAt());
  }
  /** The id of its audit events. */
  get id() {
    return this.#operation.id();
  }
  /** The first window [from, until) in which the request was accepted, in seconds since 1970 in UTC with `offset` added; with a `period` they begin anew each time
   * so many seconds have passed. */
  at(windows, period = 0, offset = 0) {
    const seconds = windows.map((window) => window.map(BigInt));
    return first(seconds, (part) => this.#operation.at(part, period, offset));
  }
  /** Whether the caller is in one of these groups. */
  isIn(groups) {
    return this.caller.isIn(groups);
  }
  /** The decoded query, in order, keys repeated as they came: [key, value]. */
  get query() {
    return this.#operation.queries();
  }
  /** Every value of a query parameter. */
  queryValues(key) {
    return this.#operation.query(key);
  }
  /** The first value of a query parameter. */
  queryValue(key) {
    return this.queryValues(key)[0];
  }
  /** The first of these that any value of a query parameter matches: to refuse by one, not to let pass by it. */
  queryLike(key, globs) {
    return first(globs, (part) => this.#operation.queryLike(key, part));
  }
  /** A verified claim of the caller's token. */
  claim(name) {
    return this.caller.claim(name);
  }
  /** One of the objects that `needs` names: namespace, stored, pod. */
  around(which) {
    const found = lookAround(which);
    return found && new Document(found);
  }
  /** Adds a fact to the audit event: never a secret. */
  annotate(key, value) {
    annotate(key, String(value));
  }
  /** Adds to a counter and returns what was counted in the last `windowSeconds`; 0 asks without counting. */
  count(key, amount, windowSeconds) {
    return Number(count(key, BigInt(amount), windowSeconds));
  }
  /** Adds to a counter of that name that is the caller's own, and says how many of the limits, each larger than the one before, what was added in the last
   * `windowSeconds` is over. */
  spend(name, amount, windowSeconds, limits) {
    return spend(name, { tag: 'number', val: BigInt(amount) }, windowSeconds, BigUint64Array.from(limits, BigInt));
  }
}

/** A Kubernetes object, held by the host. Paths are JSONPath: names, indexes, wildcards, descendants. */
class Document {
  constructor(document) {
    this.document = document;
  }
  /** The first match of a path. */
  get(path) {
    const found = this.document.get(path);
    return found === undefined ? undefined : JSON.parse(found);
  }
  /** The first match of a path, if it is text. */
  text(path) {
    const found = this.get(path);
    return typeof found === 'string' ? found : undefined;
  }
  /** Every match of a path: [its normalized path, its value]. */
  select(path) {
    return this.document.select(path).map(([at, value]) => [at, JSON.parse(value)]);
  }
  /** Every text that a path matches. */
  texts(path) {
    return this.select(path).map(([, value]) => value).filter((value) => typeof value === 'string');
  }
  /** Which of these values any match of a path is, the first of them. */
  is(path, anyOf) {
    return first(json(anyOf), (part) => this.document.is(path, part));
  }
  /** How many matches a path has. */
  matches(path) {
    return this.document.matches(path);
  }
  /** All of it. */
  json() {
    return JSON.parse(this.document.json());
  }
  /** Bytes of it, as it came. */
  size() {
    return Number(this.document.size());
  }
}

const flags = (names) => Object.fromEntries(names.map((name) => [name.replace(/-(.)/g, (_, c) => c.toUpperCase()), true]));

/** Makes of a description what the contract wants exported. */
export function definePolicy(description) {
  const { name, version, summary, settings: schema = { type: 'object', additionalProperties: false }, rules = [], needs = [] } = description;
  const { capabilities = [] } = description;
  let settings = {};
  const hooks = { request: !!description.onRequest, object: !!description.onObject, chunk: !!description.onChunk };
  return {
    configure(text) {
      const given = JSON.parse(text);
      settings = withDefaults(schema, given, 'settings');
      // What is thrown here is shown to the operator, and keeps the last good version serving.
      description.configure?.(settings);
    },
    describe: () => ({
      name,
      version,
      summary,
      rules: (typeof rules === 'function' ? rules(settings) : rules).map((rule) => ({
        verbs: rule.verbs ?? [],
        apiGroups: rule.apiGroups ?? [],
        resources: rule.resources ?? [],
        namespaces: rule.namespaces ?? [],
      })),
      hooks,
      needs,
      capabilities: flags(capabilities),
      settingsSchema: JSON.stringify(schema),
    }),
    onRequest: (operation, body) => told(() => description.onRequest?.(new Request(operation, body), settings)) ?? allow(),
    onObject: (operation, object) => told(() => description.onObject?.(new Request(operation), new Document(object), settings)) ?? allow(),
    onChunk: (operation, channel, data) =>
      told(() => description.onChunk?.(new Request(operation), channel, data, settings)) ?? forward(),
  };
}

/** What is thrown is told with its type first: the runtime writes the message and the stack alone. */
function told(call) {
  try {
    return call();
  } catch (error) {
    if (error instanceof Error) console.error(`${error.name}: ${error.message}`);
    throw error;
  }
}

/** Settings with what the schema gives for those that are not there; an error where they are not as it says. */
function withDefaults(schema, value, at) {
  const wrong = (why) => {
    throw `${at}: ${why}`;
  };
  const type = Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value;
  if (schema.type && schema.type !== type && !(schema.type === 'integer' && Number.isInteger(value))) wrong(`${schema.type} is expected`);
  if (schema.enum && !schema.enum.includes(value)) wrong(`one of ${schema.enum.join(', ')} is expected`);
  if (schema.minimum !== undefined && value < schema.minimum) wrong(`at least ${schema.minimum} is expected`);
  if (type === 'array') return schema.items ? value.map((item, n) => withDefaults(schema.items, item, `${at}[${n}]`)) : value;
  if (type !== 'object') return value;
  const properties = schema.properties ?? {};
  const result = {};
  for (const [key, own] of Object.entries(properties)) {
    if (value[key] !== undefined) result[key] = withDefaults(own, value[key], `${at}.${key}`);
    else if (own.default !== undefined) result[key] = own.default;
    else if (schema.required?.includes(key)) wrong(`${key} is missing`);
  }
  for (const key of Object.keys(value)) {
    if (Object.hasOwn(properties, key)) continue;
    if (schema.additionalProperties === false) wrong(`${key} is not known; ${Object.keys(properties).join(', ') || 'none'} are`);
    result[key] = value[key];
  }
  return result;
}
