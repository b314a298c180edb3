// policy-name: has each team see its own objects.
import { allow, block, definePolicy } from './postern.js';

export const policy = definePolicy({
  name: 'policy-name',
  version: '0.1.0',
  summary: 'Has each team see its own objects',
  // JSON Schema of what stands under `settings` in the file beside the module. What is not there is not taken.
  settings: {
    type: 'object',
    additionalProperties: false,
    properties: {
      label: { type: 'string', default: 'team', description: 'The label that says whose an object is' },
      groups: { type: 'array', items: { type: 'string' }, default: ['sre'], description: 'Groups that see, and create, everything' },
    },
  },
  // Which operations it is asked about; an empty list means any.
  rules: [{ verbs: ['create', 'get', 'list', 'watch'], resources: ['configmaps', 'deployments'] }],
  // What it must see beyond who asks for what: bodies, secret-values, streams, counters. Names and labels are always there.
  capabilities: [],

  onRequest(request, settings) {
    if (request.verb !== 'create' || request.isIn(settings.groups)) return allow();
    const team = request.body?.text(`$.metadata.labels['${settings.label}']`);
    if (!team) return block(`what is created needs the label ${settings.label}`, `put ${settings.label}: YOUR-TEAM into metadata.labels`);
    return request.isIn([team]) ? allow() : block(`${request.caller.username} is not of the team ${team}`);
  },

  // Each object that comes back: of a get, of a list, of a watch. What is blocked here is left out.
  onObject(request, document, settings) {
    const team = document.text(`$.metadata.labels['${settings.label}']`);
    if (!team || request.isIn([team, ...settings.groups])) return allow();
    return block(`it is of the team ${team}`);
  },
});
