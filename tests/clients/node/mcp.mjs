// Asks an MCP server, as an AI agent does, and prints what it answered: a line of JSON for each call, {"tool", "error", "text"}.
//
// usage: node mcp.mjs SERVER KUBECONFIG CALLS
//
// SERVER is one of those below. CALLS is a list of [tool, arguments] in JSON; none prints the tools there are.

import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const modules = join(dirname(fileURLToPath(import.meta.url)), 'node_modules');
const servers = {
  'kubernetes-mcp-server': ['kubernetes-mcp-server/bin/index.js', '--kubeconfig'],
  'mcp-server-kubernetes': ['mcp-server-kubernetes/dist/index.js'],
};
const [server, kubeconfig, calls] = process.argv.slice(2);
const [script, ...flags] = servers[server];
const command = [join(modules, script), ...flags.flatMap((flag) => [flag, kubeconfig])];
const child = spawn(process.execPath, command, { env: { ...process.env, KUBECONFIG: kubeconfig }, stdio: ['pipe', 'pipe', 'ignore'] });
child.on('exit', (code) => code && process.exit(code));

const waiting = new Map();
createInterface({ input: child.stdout }).on('line', (line) => {
  const message = JSON.parse(line);
  waiting.get(message.id)?.(message);
});
const send = (message) => child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
let number = 0;
const ask = (method, params) =>
  new Promise((resolve) => {
    waiting.set(++number, resolve);
    send({ id: number, method, params });
  });

await ask('initialize', { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'suite', version: '1' } });
send({ method: 'notifications/initialized' });
if (!calls) {
  for (const tool of (await ask('tools/list', {})).result.tools) console.log(tool.name, JSON.stringify(tool.inputSchema.properties));
}
for (const [tool, given] of JSON.parse(calls ?? '[]')) {
  const { result, error } = await ask('tools/call', { name: tool, arguments: given });
  const text = error?.message ?? (result.content ?? []).map((part) => part.text).join('\n');
  console.log(JSON.stringify({ tool, error: Boolean(error ?? result.isError), text }));
}
child.stdin.end();
child.kill();
process.exit(0);
