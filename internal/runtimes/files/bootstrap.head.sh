# Starts the runtime: the interpreter directly, or through the wrapper that
# AWS_LAMBDA_EXEC_WRAPPER names, which gets the interpreter's command line as
# its arguments.
_runtime=${LAMBDA_RUNTIME_DIR:-/var/runtime}
_lang=${_runtime%/runtime}/lang
_opt=${_FIRN_OPT:-/opt}
