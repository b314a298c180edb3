// policy-name: hides the values of Secrets.
import { allow, definePolicy, field, mask } from './postern.js';

export const policy = definePolicy({
  name: 'policy-name',
  version: '0.1.0',
  summary: 'Hides the values of Secrets',
  // JSON Schema of what stands under `settings` in the file beside the module. What is not there is not taken.
  settings: {
    type: 'object',
    additionalProperties: false,
    properties: {
      groups: { type: 'array', items: { type: 'string' }, default: ['sre'], description: 'Groups that see them' },
    },
  },
  // Which operations it is asked about; an empty list means any.
  rules: [{ resources: ['secrets'] }],
  // What it must see beyond who asks for what: bodies, secret-values, streams, counters.
  capabilities: [],

  onRequest(request, settings) {
    if (request.isIn(settings.groups)) return allow();
    // Equal values of a Secret are equal tokens. `.keepLast(4)`, `.remove()` and `.when('$.type', 'Opaque')` are there too.
    return mask(field('$.data.*').tokenize(), field('$.stringData.*').tokenize());
  },
});
