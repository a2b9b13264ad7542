
wrapper=$AWS_LAMBDA_EXEC_WRAPPER
if [ -z "$wrapper" ]; then
  exec "$@"
fi
if [ ! -f "$wrapper" ]; then
  echo "AWS_LAMBDA_EXEC_WRAPPER: $wrapper does not exist"
  exit 127
fi
if [ ! -x "$wrapper" ]; then
  echo "AWS_LAMBDA_EXEC_WRAPPER: $wrapper is not executable"
  exit 126
fi
exec "$wrapper" "$@"
