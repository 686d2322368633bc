/*
 * Preloaded into a process: keeps a log of everything it does to the files below one directory, so that a test can put
 * together what a disk could have had at any moment, had the power been cut. Syncs are logged and not done.
 *
 * POWERLOSS_DIR  the directory (absolute, no symbolic links in it)
 * POWERLOSS_LOG  the log, made anew
 *
 * A record is a header of 48 bytes, in the order of the host, and then name, other and data:
 *
 *   u32 magic  u32 kind  u64 inode  u64 at  u64 name bytes  u64 other bytes  u64 data bytes
 *
 * What is written to standard output is logged too (kind SAID): so what was said has its place among the rest. One lock
 * is held over each call and its record, so the order of the log is the order in which things happened. mmap is not
 * followed: SQLite maps only its -shm file for writing, which is made anew after every end.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE = 1, MKDIR, SYMLINK, UNLINK, RENAME, WRITE, TRUNCATE, SYNC, SYNCDIR, SAID };

static const uint32_t MAGIC = 0x504c4f53;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_bytes;
static dev_t device;
static int log_fd = -1;

/* Inodes that were opened below the directory; a table with open addressing, never full. */
static uint64_t *known;
static size_t known_room, known_count;

static void fail(const char *what) {
    dprintf(2, "powerloss: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void start(void) {
    const char *dir = getenv("POWERLOSS_DIR"), *path = getenv("POWERLOSS_LOG");
    struct stat st;
    if (!dir || !path)
        return;
    root_bytes = strlen(dir);
    if (root_bytes >= sizeof root || stat(dir, &st))
        fail("POWERLOSS_DIR");
    memcpy(root, dir, root_bytes + 1);
    device = st.st_dev;
    log_fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        fail("POWERLOSS_LOG");
}

/* The function that the program would have called. */
#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void put(enum kind kind, uint64_t inode, uint64_t at, const char *name, const char *other, const void *data,
                size_t bytes) {
    struct {
        uint32_t magic, kind;
        uint64_t inode, at, name, other, data;
    } head = {MAGIC, kind, inode, at, name ? strlen(name) : 0, other ? strlen(other) : 0, bytes};
    struct iovec parts[4] = {{&head, sizeof head},
                             {(void *)name, head.name},
                             {(void *)other, head.other},
                             {(void *)data, bytes}};
    size_t whole = sizeof head + head.name + head.other + bytes;
    if (syscall(SYS_writev, log_fd, parts, 4) != (ssize_t)whole)
        fail("the log");
}

static size_t slot(uint64_t inode) {
    size_t i = inode * 0x9e3779b97f4a7c15u % known_room;
    while (known[i] && known[i] != inode)
        i = (i + 1) % known_room;
    return i;
}

static void know(uint64_t inode) {
    if (known_count * 2 >= known_room) {
        uint64_t *before = known;
        size_t room = known_room;
        known_room = room ? room * 2 : 1024;
        known = calloc(known_room, sizeof *known);
        if (!known)
            fail("memory");
        for (size_t i = 0; i < room; i++)
            if (before[i])
                known[slot(before[i])] = before[i];
        free(before);
    }
    size_t i = slot(inode);
    known_count += !known[i];
    known[i] = inode;
}

/* The path below the directory, or NULL. `buffer` is used for one that is relative. */
static const char *below(const char *path, char *buffer) {
    if (log_fd < 0 || !path)
        return NULL;
    if (path[0] != '/') {
        if (!getcwd(buffer, PATH_MAX) || strlen(buffer) + strlen(path) + 2 > PATH_MAX)
            return NULL;
        strcat(strcat(buffer, "/"), path);
        path = buffer;
    }
    if (strncmp(path, root, root_bytes) || path[root_bytes] != '/')
        return NULL;
    return path + root_bytes + 1;
}

/* The inode of a file below the directory that is open as `fd`, or 0. */
static uint64_t inode_of(int fd) {
    struct stat st;
    if (log_fd < 0 || !known_room || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_dev != device)
        return 0;
    return known[slot(st.st_ino)] == st.st_ino ? st.st_ino : 0;
}

static int opened(int fd, const char *name, int flags, int was_there) {
    struct stat st;
    if (fd < 0 || !name || fstat(fd, &st) || !S_ISREG(st.st_mode))
        return fd;
    know(st.st_ino);
    if (!was_there)
        put(CREATE, st.st_ino, 0, name, NULL, NULL, 0);
    else if (flags & O_TRUNC)
        put(TRUNCATE, st.st_ino, 0, NULL, NULL, NULL, 0);
    return fd;
}

#define OPEN(function, first, given, ...) \
    int function(first const char *path, int flags, ...) { \
        REAL(function); \
        char buffer[PATH_MAX]; \
        mode_t mode = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
            va_list list; \
            va_start(list, flags); \
            mode = va_arg(list, mode_t); \
            va_end(list); \
        } \
        const char *name = below(path, buffer); \
        if (!name) \
            return real(given path, flags, mode); \
        pthread_mutex_lock(&lock); \
        int was_there = !(flags & O_CREAT) || !faccessat(AT_FDCWD, path, F_OK, 0); \
        int fd = opened(real(given path, flags, mode), name, flags, was_there); \
        int error = errno; \
        pthread_mutex_unlock(&lock); \
        errno = error; \
        return fd; \
    }

#define NOTHING
#define AT_FIRST int at,
#define AT_GIVEN at,
OPEN(open, NOTHING, NOTHING)
OPEN(open64, NOTHING, NOTHING)
OPEN(openat, AT_FIRST, AT_GIVEN)
OPEN(openat64, AT_FIRST, AT_GIVEN)

static ssize_t note_write(int fd, ssize_t written, uint64_t inode, off_t at, const struct iovec *parts, int count) {
    for (int i = 0; i < count && written > 0; i++) {
        size_t bytes = (size_t)written < parts[i].iov_len ? (size_t)written : parts[i].iov_len;
        put(inode ? WRITE : SAID, inode, at, NULL, NULL, parts[i].iov_base, bytes);
        at += bytes;
        written -= bytes;
    }
    (void)fd;
    return written;
}

/* A call that writes at the descriptor's own place, or at `place` (which is not below 0). */
#define WRITING(call, place, parts, count) \
    if (log_fd < 0) \
        return call; \
    pthread_mutex_lock(&lock); \
    uint64_t inode = inode_of(fd); \
    off_t from = place; \
    struct stat status; \
    if (inode && from < 0) { \
        from = lseek(fd, 0, SEEK_CUR); \
        if (fcntl(fd, F_GETFL) & O_APPEND) \
            from = fstat(fd, &status) ? 0 : status.st_size; \
    } \
    ssize_t written = call; \
    int error = errno; \
    if (inode || fd == 1) \
        note_write(fd, written, inode, from, parts, count); \
    pthread_mutex_unlock(&lock); \
    errno = error; \
    return written

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(write);
    struct iovec one = {(void *)bytes, count};
    WRITING(real(fd, bytes, count), -1, &one, 1);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    WRITING(real(fd, parts, count), -1, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    REAL(pwrite);
    struct iovec one = {(void *)bytes, count};
    WRITING(real(fd, bytes, count, at), at, &one, 1);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    REAL(pwrite64);
    struct iovec one = {(void *)bytes, count};
    WRITING(real(fd, bytes, count, at), at, &one, 1);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    REAL(pwritev);
    WRITING(real(fd, parts, count, at), at, parts, count);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    REAL(pwritev64);
    WRITING(real(fd, parts, count, at), at, parts, count);
}

/* Copies inside the kernel are not followed; whoever is told so reads and writes instead. */
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t bytes, unsigned flags) {
    (void)from, (void)from_at, (void)to, (void)to_at, (void)bytes, (void)flags;
    errno = ENOSYS;
    return -1;
}

ssize_t sendfile(int to, int from, off_t *at, size_t bytes) {
    (void)to, (void)from, (void)at, (void)bytes;
    errno = EINVAL;
    return -1;
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t bytes) {
    (void)to, (void)from, (void)at, (void)bytes;
    errno = EINVAL;
    return -1;
}

static int truncated(int fd, off_t size, int (*call)(int, off_t)) {
    pthread_mutex_lock(&lock);
    uint64_t inode = inode_of(fd);
    int done = call(fd, size);
    int error = errno;
    if (!done && inode)
        put(TRUNCATE, inode, size, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    return truncated(fd, size, real);
}

int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    return truncated(fd, size, real);
}

int posix_fallocate(int fd, off_t at, off_t bytes) {
    (void)fd, (void)at, (void)bytes;
    return EOPNOTSUPP;
}

int fallocate(int fd, int mode, off_t at, off_t bytes) {
    (void)fd, (void)mode, (void)at, (void)bytes;
    errno = EOPNOTSUPP;
    return -1;
}

/*
 * Logged as it begins: what is written while it lasts is not covered. It lasts as long as on a disk, so that other
 * threads come as far as they would.
 */
static int synced(int fd) {
    static unsigned turn;
    struct stat st;
    char link[64], path[PATH_MAX], buffer[PATH_MAX];
    pthread_mutex_lock(&lock);
    uint64_t inode = inode_of(fd);
    if (inode) {
        put(SYNC, inode, 0, NULL, NULL, NULL, 0);
    } else if (!fstat(fd, &st) && S_ISDIR(st.st_mode)) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t bytes = readlink(link, path, sizeof path - 1);
        path[bytes < 0 ? 0 : bytes] = 0;
        const char *name = strcmp(path, root) ? below(path, buffer) : "";
        if (name)
            put(SYNCDIR, 0, 0, name, NULL, NULL, 0);
    }
    turn = turn * 1103515245 + 12345;
    unsigned pause = turn >> 16 & 1023;
    pthread_mutex_unlock(&lock);
    usleep(pause);
    return 0;
}

int fsync(int fd) {
    REAL(fsync);
    return log_fd < 0 ? real(fd) : synced(fd);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return log_fd < 0 ? real(fd) : synced(fd);
}

/* It does not promise what fsync does. */
int sync_file_range(int fd, off64_t at, off64_t bytes, unsigned flags) {
    (void)fd, (void)at, (void)bytes, (void)flags;
    return 0;
}

#define NAMING(call, kind, name, other) \
    pthread_mutex_lock(&lock); \
    int done = call; \
    int error = errno; \
    if (!done) \
        put(kind, 0, 0, name, other, NULL, 0); \
    pthread_mutex_unlock(&lock); \
    errno = error; \
    return done

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    char buffer[PATH_MAX];
    const char *name = below(path, buffer);
    if (!name)
        return real(path, mode);
    NAMING(real(path, mode), MKDIR, name, NULL);
}

int symlink(const char *target, const char *path) {
    REAL(symlink);
    char buffer[PATH_MAX];
    const char *name = below(path, buffer);
    if (!name)
        return real(target, path);
    NAMING(real(target, path), SYMLINK, name, target);
}

int unlink(const char *path) {
    REAL(unlink);
    char buffer[PATH_MAX];
    const char *name = below(path, buffer);
    if (!name)
        return real(path);
    NAMING(real(path), UNLINK, name, NULL);
}

int rmdir(const char *path) {
    REAL(rmdir);
    char buffer[PATH_MAX];
    const char *name = below(path, buffer);
    if (!name)
        return real(path);
    NAMING(real(path), UNLINK, name, NULL);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    char buffer[PATH_MAX], other[PATH_MAX];
    const char *name = below(from, buffer), *onto = below(to, other);
    if (!name && !onto)
        return real(from, to);
    if (!name || !onto) {
        dprintf(2, "powerloss: rename %s %s leads out of the directory\n", from, to);
        abort();
    }
    NAMING(real(from, to), RENAME, name, onto);
}

/* What would change files in a way that is not followed ends the process instead of the test's sense. */
#define NOT_FOLLOWED(function, result, arguments, path, call) \
    result function arguments { \
        REAL(function); \
        char buffer[PATH_MAX]; \
        if (below(path, buffer)) { \
            dprintf(2, "powerloss: " #function " is not followed: %s\n", path); \
            abort(); \
        } \
        return call; \
    }

NOT_FOLLOWED(link, int, (const char *from, const char *to), to, real(from, to))
NOT_FOLLOWED(linkat, int, (int at, const char *from, int other, const char *to, int flags), to,
             real(at, from, other, to, flags))
NOT_FOLLOWED(renameat, int, (int at, const char *from, int other, const char *to), to, real(at, from, other, to))
NOT_FOLLOWED(renameat2, int, (int at, const char *from, int other, const char *to, unsigned flags), to,
             real(at, from, other, to, flags))
NOT_FOLLOWED(symlinkat, int, (const char *target, int at, const char *path), path, real(target, at, path))
NOT_FOLLOWED(unlinkat, int, (int at, const char *path, int flags), path, real(at, path, flags))
NOT_FOLLOWED(mkdirat, int, (int at, const char *path, mode_t mode), path, real(at, path, mode))
NOT_FOLLOWED(truncate, int, (const char *path, off_t size), path, real(path, size))
NOT_FOLLOWED(creat, int, (const char *path, mode_t mode), path, real(path, mode))
