# Each test in a process of its own, so that one that hangs or dies costs only itself.
# An emulated machine is slow: what takes 1 s on a host can take 20 here.
failed=
for test in $("$TESTS" --list --format terse "$FILTER" | sed -n 's/: test$//p'); do
    began=$(date +%s)
    if timeout --kill-after=5 600 "$TESTS" --exact "$test" --nocapture >/tmp/test.out 2>&1; then
        result=ok
    else
        result=FAILED
        failed="$failed $test"
    fi
    echo "$result $test ($(($(date +%s) - began)) s)"
    if [ "$result" = FAILED ]; then
        tail -n 30 /tmp/test.out
    fi
done
[ -z "$failed" ] || {
    echo "failed:$failed"
    exit 1
}
