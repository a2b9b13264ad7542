# NODE_PATH of the function's own replaces the places in layers.
if [ -z "$NODE_PATH" ]; then
  NODE_PATH=$_opt/nodejs/node@VERSION@/node_modules:$_opt/nodejs/node_modules:$_runtime/node_modules:$_runtime:$LAMBDA_TASK_ROOT
  export NODE_PATH
fi
unset _FIRN_OPT

set -- "$_lang/bin/node"
if [ @VERSION@ = 22 ]; then
  # Off on Lambda unless the function's NODE_OPTIONS ask for them.
  for _feature in require-module detect-module; do
    case $NODE_OPTIONS in
    *"-experimental-$_feature"*) ;;
    *) set -- "$@" "--no-experimental-$_feature" ;;
    esac
  done
fi

# A tenth of the memory is for young objects, half of it for each half-space.
_young=$((${AWS_LAMBDA_FUNCTION_MEMORY_SIZE:-128} / 10))
set -- "$@" --expose-gc --max-http-header-size=81920 \
  "--max-semi-space-size=$((_young / 2))" \
  "--max-old-space-size=$((${AWS_LAMBDA_FUNCTION_MEMORY_SIZE:-128} - _young))" \
  "$_runtime/index.mjs"
