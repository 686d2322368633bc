# Each test in a process of its own, so that one that hangs or dies costs only itself.
# An emulated machine is slow: what takes 1 s on a host can take 20 here.
export PORTCULLIS_TEST_PART=10
# Measurements are no tests: --list names them, too.
"$TESTS" --list --ignored --format terse >/tmp/ignored
passed=0
failed=
for test in $("$TESTS" --list --format terse $FILTERS | grep -vxF -f /tmp/ignored | sed -n 's/: test$//p'); do
    began=$(date +%s)
    if timeout --kill-after=5 600 "$TESTS" --exact "$test" --nocapture >/tmp/test.out 2>&1; then
        result=ok
        passed=$((passed + 1))
    else
        result=FAILED
        failed="$failed $test"
    fi
    echo "$result $test ($(($(date +%s) - began)) s)"
    if [ "$result" = FAILED ]; then
        tail -n 30 /tmp/test.out
    fi
done
echo "$passed passed"
[ -z "$failed" ] || {
    echo "failed:$failed"
    exit 1
}
[ "$passed" -gt 0 ] || {
    echo "no test is called like that"
    exit 1
}
