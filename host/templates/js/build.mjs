// Builds policy.js and what it imports into one component that imports nothing but the contract.
import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const { component } = await componentize({
  sourcePath: 'policy.js',
  witPath: 'wit',
  worldName: 'policy-module',
  disableFeatures: ['random', 'clocks', 'http', 'fetch-event'],
});
await writeFile(process.argv[2], component);
