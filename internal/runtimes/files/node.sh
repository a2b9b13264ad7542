# NODE_PATH of the function's own replaces the places in layers.
if [ -z "$NODE_PATH" ]; then
  NODE_PATH=$opt/nodejs/node@VERSION@/node_modules:$opt/nodejs/node_modules:$runtime/node_modules:$runtime:$LAMBDA_TASK_ROOT
  export NODE_PATH
fi
unset _FIRN_OPT

set -- "$lang/bin/node"
if [ @VERSION@ = 22 ]; then
  # Off on Lambda unless the function's NODE_OPTIONS ask for them.
  for feature in require-module detect-module; do
    case $NODE_OPTIONS in
    *"-experimental-$feature"*) ;;
    *) set -- "$@" "--no-experimental-$feature" ;;
    esac
  done
fi

# A tenth of the memory is for young objects, half of it for each half-space.
young=$((${AWS_LAMBDA_FUNCTION_MEMORY_SIZE:-128} / 10))
set -- "$@" --expose-gc --max-http-header-size=81920 \
  "--max-semi-space-size=$((young / 2))" \
  "--max-old-space-size=$((${AWS_LAMBDA_FUNCTION_MEMORY_SIZE:-128} - young))" \
  "$runtime/index.mjs"
