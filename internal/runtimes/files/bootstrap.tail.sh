
_wrapper=$AWS_LAMBDA_EXEC_WRAPPER
if [ -z "$_wrapper" ]; then
  exec $_plain "$@"
fi
if [ ! -f "$_wrapper" ]; then
  echo "AWS_LAMBDA_EXEC_WRAPPER: $_wrapper does not exist"
  exit 127
fi
if [ ! -x "$_wrapper" ]; then
  echo "AWS_LAMBDA_EXEC_WRAPPER: $_wrapper is not executable"
  exit 126
fi
exec "$_wrapper" "$@"
