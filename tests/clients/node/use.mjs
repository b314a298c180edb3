// Uses a cluster by the client of JavaScript, and prints what it saw: what tests/clients/python/use.py prints for Python.
//
// usage: node use.mjs KUBECONFIG NAMESPACE PORT

import { PassThrough } from 'node:stream';
import { AuthorizationV1Api, CoreV1Api, Exec, KubeConfig, Log, PatchStrategy, PortForward, makeInformer, setHeaderOptions } from '@kubernetes/client-node';

const [kubeconfig, namespace, port] = process.argv.slice(2);
const config = new KubeConfig();
config.loadFromFile(kubeconfig);
const core = config.makeApiClient(CoreV1Api);
const say = (what, ...values) => console.log(what, ...values.map((value) => JSON.stringify(value)));
const text = async (stream) => {
  let all = '';
  for await (const piece of stream) all += piece;
  return all;
};
const of = { name: 'of-node', namespace };

say('pods', (await core.listNamespacedPod({ namespace, limit: 1 })).items.map((pod) => pod.metadata.name));
say('secret', (await core.readNamespacedSecret({ name: 'db', namespace })).data);
await core.readNamespacedPod({ name: 'nobody', namespace }).catch((error) => say('missing', error.code, JSON.parse(error.body).reason));

// An informer lists, watches, and tells of each change once.
const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'of=node' });
const informer = makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list, 'of=node');
const told = [];
const over = new Promise((resolve, reject) => {
  for (const event of ['add', 'update']) informer.on(event, (object) => told.push([event, object.data.key]));
  informer.on('delete', () => resolve());
  informer.on('error', reject);
  setTimeout(() => reject(new Error(`the informer was told ${JSON.stringify(told)}`)), 30000).unref();
});
await informer.start();
const seen = async (what) => {
  for (let tries = 0; tries < 300 && !told.some(([event]) => event === what); tries++) await new Promise((done) => setTimeout(done, 50));
};
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'of-node', labels: { of: 'node' } }, data: { key: 'before' } } });
await seen('add');
const patch = [{ op: 'replace', path: '/data/key', value: 'after' }];
say('patched', (await core.patchNamespacedConfigMap({ ...of, body: patch }, setHeaderOptions('Content-Type', PatchStrategy.JsonPatch))).data);
await seen('update');
await core.deleteNamespacedConfigMap(of);
await over;
say('informer', told);
informer.stop();

const log = new PassThrough();
const ended = text(log);
await new Log(config).log(namespace, 'web', 'main', log, { tailLines: 2 });
say('log', await ended);

const run = async (command, input) => {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const said = [text(out), text(err)];
  const status = await new Promise((resolve, reject) => {
    new Exec(config).exec(namespace, 'web', 'main', command, out, err, input, false, resolve).catch(reject);
  });
  out.end();
  err.end();
  return [...(await Promise.all(said)), status.status, status.reason];
};
say('exec', ...(await run(['sh', '-c', 'echo out; echo err >&2; exit 3'], null)));
const input = new PassThrough();
input.write('typed by node\n');
say('typed', ...(await run(['head', '-n', '1'], input)));

const [there, back] = [new PassThrough(), new PassThrough()];
const forwarded = await new PortForward(config).portForward(namespace, 'web', [Number(port)], back, null, there);
there.write('there and back');
say('port-forward', String(await new Promise((resolve) => back.once('data', resolve))));
forwarded.close?.();

const resourceAttributes = { verb: 'get', resource: 'pods', namespace };
const review = await config.makeApiClient(AuthorizationV1Api).createSelfSubjectAccessReview({ body: { spec: { resourceAttributes } } });
say('may', review.status.allowed);
process.exit(0);
