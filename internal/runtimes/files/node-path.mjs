// Resolution of ES modules through NODE_PATH: where the ordinary one finds no
// package, the folders of NODE_PATH are looked through in their order.
import { createRequire } from 'node:module';
import { basename, delimiter, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

const folders = (process.env.NODE_PATH ?? '').split(delimiter).filter(Boolean);
const bare = (name) => !/^(\.{0,2}\/|[a-z][a-z0-9+.-]+:|#)/i.test(name);
const missing = (error) => error?.code === 'ERR_MODULE_NOT_FOUND';

// attempts are the ways to look for a package: as if from a file beside the
// folder node_modules, else as a path below the folder.
function* attempts(name) {
  for (const folder of folders) {
    if (basename(folder) === 'node_modules') {
      yield { parent: pathToFileURL(join(dirname(folder), 'node-path.mjs')).href };
    } else {
      try {
        const found = createRequire(join(folder, 'node-path.cjs')).resolve(join(folder, name));
        yield { url: pathToFileURL(found).href };
      } catch {
        // Not there.
      }
    }
  }
}

export async function resolve(name, context, next) {
  try {
    return await next(name, context);
  } catch (error) {
    if (!missing(error) || !bare(name)) throw error;
    for (const { parent, url } of attempts(name)) {
      try {
        return await (parent ? next(name, { ...context, parentURL: parent }) : next(url, context));
      } catch (again) {
        if (!missing(again)) throw again;
      }
    }
    throw error;
  }
}

export function resolveSync(name, context, next) {
  try {
    return next(name, context);
  } catch (error) {
    if (!missing(error) || !bare(name)) throw error;
    for (const { parent, url } of attempts(name)) {
      try {
        return parent ? next(name, { ...context, parentURL: parent }) : next(url, context);
      } catch (again) {
        if (!missing(again)) throw again;
      }
    }
    throw error;
  }
}
