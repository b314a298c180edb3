// policy-name: says which commands run in containers.
import { definePolicy, mask, podSecrets, requireApproval } from './postern.js';

export const policy = definePolicy({
  name: 'policy-name',
  version: '0.1.0',
  summary: 'Says which commands run in containers',
  // JSON Schema of what stands under `settings` in the file beside the module. What is not there is not taken.
  settings: {
    type: 'object',
    additionalProperties: false,
    properties: {
      commands: { type: 'array', items: { type: 'string' }, default: ['ls', 'ps'], description: 'Commands that run without an approval, by their first word' },
      approvers: { type: 'array', items: { type: 'string' }, default: ['sre'], description: 'Groups that approve the others' },
    },
  },
  // Which operations it is asked about; an empty list means any.
  rules: [{ verbs: ['create'], resources: ['pods/exec', 'pods/attach'] }],
  // What it must see beyond who asks for what: bodies, secret-values, streams, counters.
  capabilities: [],

  onRequest(request, settings) {
    // attach has no words: what it reaches runs already.
    const [command] = request.command?.argv ?? [];
    // And what it writes shows no value of the Secrets that the pod uses.
    if (settings.commands.includes(command)) return mask(podSecrets());
    const what = command === undefined ? 'attaches to' : `runs ${command} in`;
    return requireApproval(`${request.caller.username} ${what} ${request.objectName}`, settings.approvers);
  },
});
