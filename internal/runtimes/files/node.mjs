// Lets ES modules find packages in the folders of NODE_PATH, as they do on
// Lambda, and hands over to the runtime interface client.
import * as nodeModule from 'node:module';

if (nodeModule.registerHooks) {
  const { resolveSync } = await import('./node-path.mjs');
  nodeModule.registerHooks({ resolve: resolveSync });
} else {
  nodeModule.register('./node-path.mjs', import.meta.url);
}
const client = await import('aws-lambda-ric');
if (client.run) {
  // Since version 4 the client starts by itself.
  await client.run(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER ?? '');
}
