// policy-name: says who may delete.
import { allow, block, definePolicy } from './postern.js';

export const policy = definePolicy({
  name: 'policy-name',
  version: '0.1.0',
  summary: 'Says who may delete',
  // JSON Schema of what stands under `settings` in the file beside the module. What is not there is not taken.
  settings: {
    type: 'object',
    additionalProperties: false,
    properties: {
      groups: { type: 'array', items: { type: 'string' }, default: ['sre'], description: 'Groups that may delete' },
    },
  },
  // Which operations it is asked about; an empty list means any.
  rules: [{ verbs: ['delete', 'deletecollection'] }],
  // What it must see beyond who asks for what: bodies, secret-values, streams, counters.
  capabilities: [],

  onRequest(request, settings) {
    if (request.isIn(settings.groups)) return allow();
    return block(`${request.caller.username} may not delete`, `ask one of ${settings.groups.join(', ')}`);
  },
});
