# Every program, loaded by this kernel.
uname -r
"$PORTCULLIS" verify-bpf
