// require-reason: changes and commands carry a reason that can be read afterwards.
import { allow, block, definePolicy } from './postern.js';

const ANNOTATION = 'postern.dev/reason';

let pattern;

export const policy = definePolicy({
  name: 'require-reason',
  version: '0.1.0',
  summary: 'Asks for a reason for changes and commands, and records it',
  settings: {
    type: 'object',
    additionalProperties: false,
    properties: {
      pattern: { type: 'string', default: '\\S{3,}', description: 'A regular expression the reason must match, for example ^(INC|CHG)-[0-9]+' },
      claims: { type: 'array', items: { type: 'string' }, default: [], description: 'Claims of the caller\'s token that are a reason too, for example a run\'s URL' },
      verbs: {
        type: 'array',
        items: { type: 'string' },
        default: ['create', 'update', 'patch', 'delete', 'deletecollection'],
        description: 'Verbs that need one; exec is create',
      },
      resources: {
        type: 'array',
        items: { type: 'string' },
        default: ['deployments', 'statefulsets', 'daemonsets', 'secrets', 'configmaps', 'pods', 'pods/exec', 'pods/attach'],
        description: 'Resources that need one, as RBAC writes them',
      },
      exemptGroups: { type: 'array', items: { type: 'string' }, default: [], description: 'Groups that need none' },
    },
  },
  configure(settings) {
    try {
      pattern = new RegExp(settings.pattern, 'u');
    } catch (error) {
      throw `settings.pattern: ${error.message}`;
    }
  },
  rules: (settings) => [{ verbs: settings.verbs, resources: settings.resources }],
  capabilities: ['bodies'],
  needs: ['stored', 'pod'],

  onRequest(request, settings) {
    if (request.dryRun || request.isIn(settings.exemptGroups)) return allow();
    for (const reason of reasons(request, settings)) {
      if (typeof reason === 'string' && pattern.test(reason)) {
        request.annotate('reason', reason.slice(0, 300));
        return allow();
      }
    }
    const target = request.resource.split('/')[0];
    const named = request.objectName ?? 'NAME';
    return block(
      `${request.verb} of ${request.resource} needs a reason that matches ${settings.pattern}`,
      isWritten(request)
        ? `put the annotation ${ANNOTATION} on the object`
        : `say it first: kubectl annotate --overwrite ${target} ${named} ${ANNOTATION}='...'`,
    );
  },
});

/** Whether the request carries the object, or a patch of it: what a delete carries is its options. */
const isWritten = (request) => request.body && !request.verb.startsWith('delete');

/** Where a reason may stand: in the body, on the object as it is stored, on the pod, in the caller's token. */
function* reasons(request, settings) {
  if (isWritten(request)) {
    const path = `$.metadata.annotations['${ANNOTATION}']`;
    const body = request.body.json();
    // A JSON patch names the annotation in its path, with / as ~1 (RFC 6901).
    if (Array.isArray(body)) {
      for (const step of body) {
        if (step.path === `/metadata/annotations/${ANNOTATION.replace('/', '~1')}` && step.op !== 'remove') yield step.value;
        if (step.path === '/metadata/annotations' && step.op !== 'remove') yield step.value?.[ANNOTATION];
      }
    } else yield request.body.get(path);
  } else {
    // What changes nothing in the object can only be explained on it, beforehand.
    const kept = request.around('stored') ?? request.around('pod');
    yield kept?.get(`$.metadata.annotations['${ANNOTATION}']`);
  }
  for (const claim of settings.claims) yield request.claim(claim);
}
