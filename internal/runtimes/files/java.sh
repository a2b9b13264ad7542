unset _FIRN_OPT

# The heap gets 85 % of the memory, class data and compiled code their shares of
# what is left. One tier of compilation serves short lives best.
memory=$((${AWS_LAMBDA_FUNCTION_MEMORY_SIZE:-128} * 1024))
set -- "$lang/bin/java" \
  "-XX:MaxHeapSize=$((memory * 85 / 100))k" \
  "-XX:MaxMetaspaceSize=$((memory * 10 / 100 > 32768 ? memory * 10 / 100 : 32768))k" \
  -XX:+UseSerialGC -XX:+TieredCompilation -XX:TieredStopAtLevel=1 -Xshare:auto \
  @FLAGS@-cp "$runtime/lib/*" run.firn.Main
