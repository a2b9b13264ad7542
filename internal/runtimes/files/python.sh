set -- "$lang/bin/python@VERSION@" "$runtime/bootstrap.py"
