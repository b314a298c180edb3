// policy-name: asks everything there is by its library, and says what it was answered.
import { block, definePolicy } from './postern.js';

const MANY = Array(1500).fill('no');
const told = (answer) => (answer === undefined ? 'none' : answer === '' ? '-' : String(answer));
const check = (holds, what) => {
  if (!holds) throw new Error(what);
};

export const policy = definePolicy({
  name: 'policy-name',
  version: '0.1.0',
  summary: 'Asks everything there is',
  rules: [],
  capabilities: ['bodies', 'counters'],

  onRequest(request) {
    const { caller, command, body } = request;
    const tests = [
      caller.groupOf(['x', 'b']),
      request.which('kind', ['pods', 'pods/exec']),
      request.like('place', ['def*/w*']),
      request.queryLike('command', ['rm*', '-*']),
      caller.claimIs('n', [2, 1]),
      caller.claimHas('list', ['z']),
      request.at([[0, 43200], [43200, 46800]], 86400),
      request.has('container'),
    ];
    const texts = [request.verb, request.resource, request.namespace ?? '', request.objectName ?? '', request.get('place'), request.cluster];
    texts.push(caller.username, caller.issuer, request.get('container') ?? '');
    const lists = [caller.groups.join(','), request.claim('sub') ?? '', request.queryValues('command').join(','), command?.argv.join(' ') ?? ''];
    const flags = [request.receivedAt, request.dryRun, request.approved, request.isCommand];
    const counts = [request.count('k', 3, 60), request.spend('k', 3, 60, [3, 6, 9])];
    // A list that is longer than what is asked about at once.
    check(request.which('verb', [...MANY, request.verb]) === 1500 && !request.is('verb', MANY) && !request.is('verb', []), 'a long list');
    check(request.queryValue('command') === command?.argv[0] && [0, 3].includes(caller.claims.length) && request.id, 'what is asked for');
    for (const wrong of [() => request.target, () => request.is('verb', 'create'), () => request.isIn(new Set(['a']))]) {
      let threw = false;
      try {
        wrong();
      } catch {
        threw = true;
      }
      check(threw, `${wrong} is taken`);
    }
    const said = [tests, texts, lists, flags, counts];
    if (body && !command) said.push([body.is('$.data.*', ['no', 'eQ==']), body.matches('$.data.*'), body.is('$.data.n', [1])]);
    return block(said.map((part) => part.map(told).join(' ')).join('; '));
  },
});
