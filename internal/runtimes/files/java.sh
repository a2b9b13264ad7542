unset _FIRN_OPT
# AWS starts Java without a shell's variables, and knew the credentials by older
# names too.
_plain='/usr/bin/env -u PWD -u SHLVL'
case @VERSION@ in
8 | 11)
  export AWS_ACCESS_KEY="$AWS_ACCESS_KEY_ID" AWS_SECRET_KEY="$AWS_SECRET_ACCESS_KEY"
  ;;
esac

# The heap gets 85 % of the memory, class data and compiled code their shares of
# what is left. One tier of compilation serves short lives best.
_memory=$((${AWS_LAMBDA_FUNCTION_MEMORY_SIZE:-128} * 1024))
set -- "$_lang/bin/java" \
  "-XX:MaxHeapSize=$((_memory * 85 / 100))k" \
  "-XX:MaxMetaspaceSize=$((_memory * 10 / 100 > 32768 ? _memory * 10 / 100 : 32768))k" \
  -XX:+UseSerialGC -XX:+TieredCompilation -XX:TieredStopAtLevel=1 -Xshare:auto \
  @FLAGS@-cp "$_runtime/lib/*" run.firn.Main
