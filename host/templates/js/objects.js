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
  rules: [{ resources: ['configmaps', 'deployments', 'deployments/status'] }],
  // What it must know beside the request: stored, namespace, pod.
  needs: ['stored'],
  // What it must see beyond who asks for what: bodies, secret-values, streams, counters. Names and labels are always there.
  capabilities: [],

  onRequest(request, settings) {
    if (request.isIn(settings.groups) || ['get', 'list', 'watch'].includes(request.verb)) return allow();
    if (request.verb === 'deletecollection') return block('many objects at once may be of several teams', 'delete them by name');
    const label = `$.metadata.labels['${settings.label}']`;
    const stored = request.around('stored');
    const owner = stored?.text(label);
    if (owner && !request.isIn([owner])) return block(`it is of the team ${owner}`);
    // A patch creates what is not there, by server-side apply.
    if (request.verb === 'delete' || (stored && request.verb === 'patch')) return allow();
    const team = request.body?.text(label);
    if (!team) return block(`what is created needs the label ${settings.label}`, `put ${settings.label}: YOUR-TEAM into metadata.labels`);
    return request.isIn([team]) ? allow() : block(`${request.caller.username} is not of the team ${team}`);
  },

  // Each object that comes back: of a get, a list, a watch, a change. What is blocked here is left out.
  onObject(request, document, settings) {
    const team = document.text(`$.metadata.labels['${settings.label}']`);
    if (!team || request.isIn([team, ...settings.groups])) return allow();
    return block(`it is of the team ${team}`);
  },
});
