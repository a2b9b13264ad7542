set -- "$_lang/bin/python@VERSION@" "$_runtime/bootstrap.py"
