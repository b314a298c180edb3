// policy-name: limits how many changes a caller makes.
import { allow, block, definePolicy } from './postern.js';

export const policy = definePolicy({
  name: 'policy-name',
  version: '0.1.0',
  summary: 'Limits how many changes a caller makes',
  // JSON Schema of what stands under `settings` in the file beside the module. What is not there is not taken.
  settings: {
    type: 'object',
    additionalProperties: false,
    properties: {
      perMinute: { type: 'integer', minimum: 0, default: 60, description: 'Changes that a caller may make in a minute' },
    },
  },
  // Which operations it is asked about; an empty list means any.
  rules: [{ verbs: ['create', 'update', 'patch', 'delete', 'deletecollection'] }],
  // What it must see beyond who asks for what: bodies, secret-values, streams, counters.
  capabilities: ['counters'],

  onRequest(request, settings) {
    if (request.dryRun) return allow();
    const soFar = request.count(request.caller.username, 1, 60);
    if (soFar <= settings.perMinute) return allow();
    return block(`${soFar} changes in a minute are over the limit of ${settings.perMinute}`, 'wait a minute');
  },
});
