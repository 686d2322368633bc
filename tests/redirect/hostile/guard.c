/* Enters the cgroup of its first argument, then does one thing that a workload must not do, or may.
 *
 * Says `ok`, or `err` and the error's number; says nothing when it was killed on the way. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int enter(const char *cgroup, pid_t pid)
{
	char path[512], text[32];
	snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int n = snprintf(text, sizeof text, "%d", pid);
	int done = write(fd, text, n) == n ? 0 : -1;
	close(fd);
	return done;
}

/* A child that waits to be killed. */
static pid_t sleeper(void)
{
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

static long vm_read(pid_t pid, void *at)
{
	char buffer[8];
	struct iovec here = { buffer, sizeof buffer }, there = { at, sizeof buffer };
	return process_vm_readv(pid, &here, 1, &there, 1, 0);
}

/* `@name` is an abstract one. */
static long unix_socket(int type, const char *to, int whole)
{
	struct sockaddr_un address;
	/* What is behind the address is no part of it. */
	memset(&address, 'x', sizeof address);
	address.sun_family = AF_UNIX;
	size_t length = strlen(to);
	if (length > sizeof address.sun_path)
		return -1;
	memcpy(address.sun_path, to, length);
	if (whole)
		address.sun_path[length] = 0;
	if (*to == '@')
		address.sun_path[0] = 0;
	int fd = socket(AF_UNIX, type, 0);
	socklen_t size = whole ? sizeof address : offsetof(struct sockaddr_un, sun_path) + length;
	if (type == SOCK_DGRAM)
		return sendto(fd, "x", 1, 0, (void *)&address, size);
	if (connect(fd, (void *)&address, size))
		return -1;
	char text[64] = "";
	long got = read(fd, text, sizeof text - 1);
	printf("%s ", text);
	return got;
}

static long int80(long number, long a, long b, long c)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
	if (result < 0) {
		errno = -result;
		return -1;
	}
	return result;
}

static long act(int argc, char **argv)
{
	const char *what = argv[2];
	long number = argc > 3 ? strtol(argv[3], 0, 0) : 0;
#define IS(name) (!strcmp(what, name))
	if (IS("socket"))
		return socket(number, argc > 4 ? atoi(argv[4]) : SOCK_RAW, 0);
	if (IS("socketpair")) {
		int pair[2];
		return socketpair(number, SOCK_STREAM, 0, pair);
	}
	if (IS("int80-socket"))
		return int80(359, number, SOCK_RAW, 0);
	if (IS("int80-socketcall")) {
		/* Below 4 GiB, where a 32-bit call finds it. */
		uint32_t *low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
		low[0] = number;
		low[1] = SOCK_RAW;
		low[2] = 0;
		return int80(102, 1, (long)low, 0);
	}
	if (IS("int80-getpid"))
		return int80(20, 0, 0, 0);
	if (IS("x32-socket"))
		return syscall(0x40000000 + SYS_socket, number, SOCK_RAW, 0);
	if (IS("io-uring-setup")) {
		char parameters[120] = { 0 };
		return syscall(425, 4, parameters);
	}
	if (IS("io-uring-enter"))
		return syscall(426, -1, 0, 0, 0, 0, 0);
	if (IS("io-uring-register"))
		return syscall(427, -1, 0, 0, 0);
	if (IS("attach"))
		return ptrace(PTRACE_ATTACH, number, 0, 0);
	if (IS("seize"))
		return ptrace(PTRACE_SEIZE, number, 0, 0);
	if (IS("attach-child")) {
		pid_t child = sleeper();
		long done = ptrace(PTRACE_ATTACH, child, 0, 0);
		kill(child, SIGKILL);
		return done;
	}
	if (IS("vm-read"))
		return vm_read(number, &number);
	if (IS("vm-read-child")) {
		pid_t child = sleeper();
		long done = vm_read(child, &number);
		kill(child, SIGKILL);
		return done;
	}
	/* In a pid namespace of its own, in which numbers are small: the first child is 1 there. */
	if (IS("vm-read-inner")) {
		if (unshare(CLONE_NEWPID))
			return -1;
		pid_t child = fork();
		if (child == 0) {
			pid_t grandchild = sleeper();
			_exit(vm_read(grandchild, &number) < 0 ? errno : 0);
		}
		int status;
		waitpid(child, &status, 0);
		if (!WIFEXITED(status))
			kill(getpid(), SIGKILL);
		errno = WEXITSTATUS(status);
		return errno ? -1 : 0;
	}
	if (IS("getfd")) {
		int pidfd = syscall(434, number, 0);
		return pidfd < 0 ? -1 : syscall(438, pidfd, 0, 0);
	}
	if (IS("mount"))
		return mount("none", argv[3], "tmpfs", 0, 0);
	if (IS("umount"))
		return umount2(argv[3], MNT_DETACH);
	if (IS("chroot"))
		return chroot(argv[3]);
	if (IS("pivot-root"))
		return syscall(SYS_pivot_root, argv[3], argv[3]);
	if (IS("own-mount")) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
			return -1;
		return mount("none", argv[3], "tmpfs", 0, 0);
	}
	if (IS("setns")) {
		int fd = open(argv[3], O_RDONLY);
		return fd < 0 ? -1 : setns(fd, argc > 4 ? strtol(argv[4], 0, 0) : 0);
	}
	if (IS("unix"))
		return unix_socket(SOCK_STREAM, argv[3], 0);
	if (IS("unix-whole"))
		return unix_socket(SOCK_STREAM, argv[3], 1);
	if (IS("unix-send"))
		return unix_socket(SOCK_DGRAM, argv[3], 0);
	if (IS("unix-in"))
		return chdir(argv[3]) ? -1 : unix_socket(SOCK_STREAM, argv[4], 0);
	if (IS("unix-by-fd")) {
		char path[64];
		snprintf(path, sizeof path, "/proc/self/fd/%d/%s", open(argv[3], O_PATH | O_DIRECTORY), argv[4]);
		return unix_socket(SOCK_STREAM, path, 0);
	}
	if (IS("leave"))
		return enter(argv[3], getpid());
	/* Moves a child out, which then says so: the child must not get that far. */
	if (IS("push-child") || IS("clone-into")) {
		struct {
			uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
		} arguments = { .exit_signal = SIGCHLD };
		int go[2];
		if (pipe(go))
			return -1;
		pid_t child;
		if (IS("clone-into")) {
			arguments.flags = 0x200000000ULL;
			arguments.cgroup = open(argv[3], O_RDONLY | O_DIRECTORY);
			child = syscall(435, &arguments, sizeof arguments);
		} else {
			child = fork();
		}
		if (child == 0) {
			char byte;
			close(go[1]);
			if (IS("push-child") && read(go[0], &byte, 1) != 1)
				pause();
			/* And where it was put into a workload, out of that again. */
			if (argc > 4)
				enter(argv[4], getpid());
			/* The first call of one that must end may still act; it does not come back. */
			syscall(SYS_getppid);
			write(1, "child runs\n", 11);
			_exit(0);
		}
		if (child < 0)
			return -1;
		if (IS("push-child")) {
			long done = enter(argv[3], child);
			write(go[1], "x", 1);
			return done;
		}
		return 0;
	}
	if (IS("share-descriptors")) {
		pid_t child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
		if (child == 0) {
			/* And where it was put into a workload, out of that again. */
			if (argc > 4)
				enter(argv[4], getpid());
			/* The first call of one that must end may still act; it does not come back. */
			syscall(SYS_getppid);
			write(1, "child runs\n", 11);
			_exit(0);
		}
		return child;
	}
	if (IS("wait")) {
		printf("ready %d\n", getpid());
		fflush(stdout);
		char byte;
		return read(0, &byte, 1) < 0 ? -1 : 0;
	}
	/* Nanoseconds per system call that is none of the guard's business. */
	if (IS("time")) {
		struct timespec start, end;
		clock_gettime(CLOCK_MONOTONIC, &start);
		for (long i = 0; i < number; i++)
			syscall(SYS_getppid);
		clock_gettime(CLOCK_MONOTONIC, &end);
		return ((end.tv_sec - start.tv_sec) * 1000000000L + end.tv_nsec - start.tv_nsec) / number;
	}
	errno = ENOSYS;
	return -1;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	if (*argv[1] && enter(argv[1], getpid())) {
		perror("cgroup.procs");
		return 2;
	}
	long result = act(argc, argv);
	if (result < 0)
		printf("err %s\n", strerrorname_np(errno));
	else
		printf("ok %ld\n", result);
	return 0;
}
