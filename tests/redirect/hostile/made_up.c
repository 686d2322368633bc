/* A workload that serves its own files (FUSE, in a user namespace of its own), and executes them.
 *
 * `made_up CGROUP DIRECTORY WAY PROGRAM`: mounts in the directory, executes in the cgroup what is there, and says each time
 * how that ended: `exit N` or `signal N`. What mounts is not in the cgroup itself, where that may be denied. Ways:
 *   serve    the program, with another last byte whenever it is opened
 *   overlay  the same, through an overlay in which it is the lowest
 *   claim    first the program in a tmpfs, and once that is gone the same from a server that claims to have the very
 *            file: its device, inode number, times and size
 *   hang     a script in as many processes as the next argument says; only they are answered, and nobody else
 * With a line on its input it goes on from one exec to the next, and at the end of it it ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *content;
static size_t length;
static struct stat claimed;
static int hangs, cgroup;

static void fail(const char *what)
{
	printf("err %s: %s\n", what, strerror(errno));
	fflush(stdout);
	exit(1);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		fail(path);
	close(fd);
}

static void attributes(struct fuse_attr *attr, uint64_t node)
{
	memset(attr, 0, sizeof *attr);
	attr->ino = node == 1 ? 1 : claimed.st_ino;
	attr->mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0755;
	attr->nlink = 1;
	attr->size = node == 1 ? 0 : length;
	attr->ctime = claimed.st_ctim.tv_sec;
	attr->ctimensec = claimed.st_ctim.tv_nsec;
	attr->blksize = 4096;
}

static void answer(int fd, uint64_t unique, int error, const void *body, size_t size)
{
	static char out[sizeof(struct fuse_out_header) + (1 << 17)];
	struct fuse_out_header head = { .len = sizeof head + size, .error = error, .unique = unique };
	memcpy(out, &head, sizeof head);
	if (size)
		memcpy(out + sizeof head, body, size);
	/* It may have been broken off. */
	if (write(fd, out, sizeof head + size) < 0 && errno != ENOENT)
		_exit(1);
}

/* /usr/include/linux/fuse.h; one directory, with one file in it by any name. */
static void serve(int fd)
{
	static char buffer[1 << 18];
	for (;;) {
		ssize_t n = read(fd, buffer, sizeof buffer);
		if (n < 0 && (errno == EINTR || errno == ENOENT))
			continue;
		if (n < (ssize_t)sizeof(struct fuse_in_header))
			_exit(0);
		struct fuse_in_header *in = (void *)buffer;
		void *body = buffer + sizeof *in;
		/* It knows its own by their session; who else asks asks in vain. */
		if (hangs && in->pid && getsid(in->pid) != getsid(0))
			continue;
		switch (in->opcode) {
		case FUSE_INIT: {
			struct fuse_init_out out = { .major = 7, .minor = 31, .max_readahead = 65536, .max_write = 65536 };
			answer(fd, in->unique, 0, &out, sizeof out);
			break;
		}
		case FUSE_LOOKUP: {
			struct fuse_entry_out out = { .nodeid = 2 };
			attributes(&out.attr, 2);
			answer(fd, in->unique, 0, &out, sizeof out);
			break;
		}
		case FUSE_GETATTR: {
			struct fuse_attr_out out = { 0 };
			attributes(&out.attr, in->nodeid);
			answer(fd, in->unique, 0, &out, sizeof out);
			break;
		}
		case FUSE_OPEN:
			content[length - 1]++;
			/* fall through */
		case FUSE_OPENDIR: {
			struct fuse_open_out out = { .fh = 1 };
			answer(fd, in->unique, 0, &out, sizeof out);
			break;
		}
		case FUSE_READ: {
			struct fuse_read_in *asked = body;
			size_t from = asked->offset < length ? asked->offset : length;
			size_t size = length - from < asked->size ? length - from : asked->size;
			answer(fd, in->unique, 0, content + from, size);
			break;
		}
		case FUSE_STATFS: {
			struct fuse_statfs_out out = { .st = { .bsize = 4096, .namelen = 255 } };
			answer(fd, in->unique, 0, &out, sizeof out);
			break;
		}
		case FUSE_READDIR:
		case FUSE_FLUSH:
		case FUSE_RELEASE:
		case FUSE_RELEASEDIR:
			answer(fd, in->unique, 0, 0, 0);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			answer(fd, in->unique, -ENOSYS, 0, 0);
		}
	}
}

/* Mounts a server of its own on a directory, which ends with this process. */
static void mounted(const char *directory)
{
	char options[128];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail("/dev/fuse");
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (mount("made-up", directory, "fuse", 0, options))
		fail("mount fuse");
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(fd);
	}
	close(fd);
}

static void start(const char *path)
{
	if (fork() == 0) {
		if (write(cgroup, "0", 1) != 1)
			_exit(126);
		execl(path, path, (char *)0);
		_exit(127);
	}
}

/* The server ends after this process only. */
static void ended(void)
{
	int status;
	wait(&status);
	if (WIFSIGNALED(status))
		printf("signal %d\n", WTERMSIG(status));
	else
		printf("exit %d\n", WEXITSTATUS(status));
	fflush(stdout);
}

static void execute(const char *path)
{
	start(path);
	ended();
}

static void next(void)
{
	char line[8];
	if (!fgets(line, sizeof line, stdin))
		exit(0);
}

static void filled(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (fd < 0 || write(fd, content, length) != (ssize_t)length)
		fail(path);
	close(fd);
}

/* Mounts until one has the number that another had: the lowest that is free is given out. */
static void claim(const char *directory, const char *path, dev_t wanted)
{
	for (int i = 0; i < 64; i++) {
		struct stat now;
		mounted(directory);
		if (stat(path, &now))
			fail("stat");
		if (now.st_dev == wanted)
			return;
	}
	errno = EEXIST;
	fail("the number of the device is another's");
}

int main(int argc, char **argv)
{
	char path[512], ids[32], below[512], above[512], options[2048];
	if (argc < 5)
		return 2;
	snprintf(path, sizeof path, "%s/cgroup.procs", argv[1]);
	cgroup = open(path, O_WRONLY | O_CLOEXEC);
	const char *directory = argv[2], *way = argv[3];
	int fd = open(argv[4], O_RDONLY | O_CLOEXEC);
	struct stat program;
	if (cgroup < 0 || fd < 0 || fstat(fd, &program))
		fail(argv[4]);
	/* The last byte is nobody's. */
	length = program.st_size + 1;
	content = calloc(1, length);
	if (read(fd, content, length - 1) != program.st_size)
		fail("read");
	close(fd);
	claimed.st_ino = 4711;
	claimed.st_ctim.tv_sec = 1000000000;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		fail("unshare");
	put("/proc/self/setgroups", "deny");
	snprintf(ids, sizeof ids, "0 0 1");
	put("/proc/self/uid_map", ids);
	put("/proc/self/gid_map", ids);
	snprintf(path, sizeof path, "%s/program", directory);

	if (!strcmp(way, "serve")) {
		mounted(directory);
		execute(path);
	} else if (!strcmp(way, "overlay")) {
		/* Both in memory, so that nothing of it is on a disk. */
		if (mount("made-up", directory, "tmpfs", 0, 0))
			fail("mount tmpfs");
		snprintf(below, sizeof below, "%s/below", directory);
		snprintf(above, sizeof above, "%s/above", directory);
		snprintf(path, sizeof path, "%s/whole", directory);
		if (mkdir(below, 0755) || mkdir(above, 0755) || mkdir(path, 0755))
			fail("mkdir");
		mounted(below);
		snprintf(options, sizeof options, "lowerdir=%s:%s", above, below);
		if (mount("made-up", path, "overlay", 0, options))
			fail("mount overlay");
		strcat(path, "/program");
		execute(path);
	} else if (!strcmp(way, "claim")) {
		if (mount("made-up", directory, "tmpfs", 0, 0))
			fail("mount tmpfs");
		filled(path);
		if (stat(path, &claimed))
			fail("stat");
		printf("ready\n");
		fflush(stdout);
		next();
		execute(path);
		next();
		execute(path);
		next();
		if (umount(directory))
			fail("umount");
		claim(directory, path, claimed.st_dev);
		execute(path);
	} else if (!strcmp(way, "hang")) {
		int all = argc > 5 ? atoi(argv[5]) : 1;
		hangs = 1;
		setsid();
		mounted(directory);
		for (int i = 0; i < all; i++)
			start(path);
		for (int i = 0; i < all; i++)
			ended();
	}
	for (;;)
		next();
}
