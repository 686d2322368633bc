/* A process that wants out. `hostile CGROUP ATTEMPT`: joins the cgroup (but for what is made before), makes one attempt
 * to get a packet to 192.0.2.254 or 2001:db8::fe by the device v0, and says "ok" or "err NAME". The test captures behind
 * the device: what counts is what arrives there, not what is said here.
 *
 * "setuid:ATTEMPT" becomes nobody and has the copy of this program beside it, HELPER-setuid, make the attempt, which gives
 * it root back; "setuid-nnp:ATTEMPT" does so with no_new_privs, by which it does not. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#define V4 "192.0.2.254"
#define V6 "2001:db8::fe"
#define MAPPED "::ffff:192.0.2.254"
static const char words[] = "hostile";

struct to { struct sockaddr_storage a; socklen_t n; };

static struct to to(const char *ip, int port) {
  struct to t = {0};
  struct sockaddr_in *four = (void *)&t.a;
  struct sockaddr_in6 *six = (void *)&t.a;
  if (strchr(ip, ':')) {
    six->sin6_family = AF_INET6, six->sin6_port = htons(port), t.n = sizeof *six;
    inet_pton(AF_INET6, ip, &six->sin6_addr);
  } else {
    four->sin_family = AF_INET, four->sin_port = htons(port), t.n = sizeof *four;
    inet_pton(AF_INET, ip, &four->sin_addr);
  }
  return t;
}

static int opened(const char *ip, int kind, int protocol) {
  int fd = socket(strchr(ip, ':') ? AF_INET6 : AF_INET, kind, protocol);
  struct timeval brief = {.tv_usec = 300000};
  if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof brief);
  return fd;
}

static int connected(const char *ip, int port, int kind, int protocol) {
  struct to t = to(ip, port);
  int fd = opened(ip, kind, protocol);
  return fd < 0 ? fd : connect(fd, (void *)&t.a, t.n) ? -1 : fd;
}

static int send_to(int fd, const char *ip, int port, int flags) {
  struct to t = to(ip, port);
  return fd < 0 ? fd : sendto(fd, words, sizeof words, flags, (void *)&t.a, t.n);
}

static int udp(const char *ip, int port) { return send_to(opened(ip, SOCK_DGRAM, 0), ip, port, 0); }

static int written(int fd) { return fd < 0 ? fd : send(fd, words, sizeof words, MSG_NOSIGNAL); }

static int frame(int fd) {
  unsigned char bytes[64] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};
  struct sockaddr_ll device = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_halen = 6};
  device.sll_ifindex = if_nametoindex("v0");
  memcpy(device.sll_addr, bytes, 6);
  return fd < 0 ? fd : sendto(fd, bytes, sizeof bytes, 0, (void *)&device, sizeof device);
}

/* One operation by a ring of its own. */
static int ring(struct io_uring_sqe sqe, unsigned flags) {
  struct io_uring_params p = {.flags = flags, .sq_thread_idle = 100};
  int fd = syscall(SYS_io_uring_setup, 1, &p);
  if (fd < 0) return fd;
  char *rings = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
  struct io_uring_sqe *sqes = mmap(0, sizeof sqe, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQES);
  if (rings == MAP_FAILED || (void *)sqes == MAP_FAILED) return -1;
  *sqes = sqe;
  *(unsigned *)(rings + p.sq_off.array) = 0;
  __atomic_fetch_add((unsigned *)(rings + p.sq_off.tail), 1, __ATOMIC_RELEASE);
  if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS | (flags & IORING_SETUP_SQPOLL ? IORING_ENTER_SQ_WAKEUP : 0), 0, 0) < 0)
    return -1;
  int result = ((struct io_uring_cqe *)(rings + p.cq_off.cqes))->res;
  return result < 0 ? (errno = -result, -1) : result;
}

static int ring_connect(void) {
  static struct to t;
  t = to(V4, 87);
  struct io_uring_sqe sqe = {.opcode = IORING_OP_CONNECT, .fd = opened(V4, SOCK_STREAM, 0), .addr = (unsigned long)&t.a, .off = t.n};
  return ring(sqe, 0);
}

static int ring_send(unsigned flags) {
  static struct to t;
  t = to(V4, 88);
  static struct iovec vector = {(void *)words, sizeof words};
  static struct msghdr message;
  message = (struct msghdr){.msg_name = &t.a, .msg_namelen = t.n, .msg_iov = &vector, .msg_iovlen = 1};
  struct io_uring_sqe sqe = {.opcode = IORING_OP_SENDMSG, .fd = opened(V4, SOCK_DGRAM, 0), .addr = (unsigned long)&message, .len = 1};
  return ring(sqe, flags);
}

static int ring_socket(int family, int kind, int protocol) {
  struct io_uring_sqe sqe = {.opcode = 45, .fd = family, .off = kind, .len = protocol};
  return ring(sqe, 0);
}

static int repaired(void) {
  int on = 1, off = 0, fd = opened(V4, SOCK_STREAM, 0);
  struct to t = to(V4, 82);
  if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) || connect(fd, (void *)&t.a, t.n)) return -1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof off)) return -1;
  return written(fd);
}

static int reconnected(void) {
  int fd = connected(V4, 83, SOCK_STREAM, 0);
  struct sockaddr none = {.sa_family = AF_UNSPEC};
  struct to t = to(V4, 84);
  if (fd < 0 || connect(fd, &none, sizeof none)) return -1;
  return connect(fd, (void *)&t.a, t.n);
}

static int by_device(int kind, int late) {
  int fd = opened(V4, kind, 0);
  struct to t = to(V4, 90);
  if (!late && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "v0", 3)) return -1;
  if (connect(fd, (void *)&t.a, t.n)) return -1;
  if (late && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "v0", 3)) return -1;
  return written(fd);
}

static int foreign(int kind) {
  int on = 1, fd = opened(V4, kind, 0);
  struct to source = to("203.0.113.77", 0), t = to(V4, 91);
  if (setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof on) || bind(fd, (void *)&source.a, source.n)) return -1;
  return connect(fd, (void *)&t.a, t.n) ? -1 : written(fd);
}

static int own_header(void) {
  unsigned char packet[28] = {0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 254, 19, 136, 19, 136, 0, 8};
  struct to t = to(V4, 0);
  int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
  return fd < 0 ? fd : sendto(fd, packet, sizeof packet, 0, (void *)&t.a, t.n);
}

static int corked(void) {
  int on = 1, fd = opened(V4, SOCK_DGRAM, 0);
  setsockopt(fd, IPPROTO_UDP, 1 /* UDP_CORK */, &on, sizeof on);
  return send_to(fd, V4, 5000, MSG_MORE) < 0 ? -1 : send_to(fd, V4, 5000, 0);
}

static int in_user_namespace(void) {
  if (unshare(CLONE_NEWUSER)) return -1;
  return own_header() < 0 ? udp(V4, 5005) : 0;
}

/* In namespaces of its own, where /proc is what it says. */
static int in_mount_namespace(void) {
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) || mount("none", "/", 0, MS_REC | MS_PRIVATE, 0)) return -1;
  return mount("none", "/proc", "tmpfs", 0, 0) ? -1 : udp(V4, 5006);
}

enum { NOBODY = 65534 };

/* Does not return but for an error. The helper is told whom it should run as. */
static int by_helper(const char *self, const char *what, int no_new_privs) {
  char helper[4096];
  snprintf(helper, sizeof helper, "%s-setuid", self);
  if (setgroups(0, 0) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)) return -1;
  if (no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
  return execl(helper, helper, no_new_privs ? "nobody" : "root", what, (char *)0);
}

static int attempt(const char *what) {
#define IS(name) if (!strcmp(what, name))
  IS("tcp4") return connected(V4, 80, SOCK_STREAM, 0);
  IS("tcp6") return connected(V6, 80, SOCK_STREAM, 0);
  IS("tcp-mapped") return connected(MAPPED, 80, SOCK_STREAM, 0);
  IS("fastopen") return send_to(opened(V4, SOCK_STREAM, 0), V4, 81, MSG_FASTOPEN);
  IS("repair") return repaired();
  IS("reconnect") return reconnected();
  IS("device-tcp") return by_device(SOCK_STREAM, 0);
  IS("device-tcp-late") return by_device(SOCK_STREAM, 1);
  IS("device-udp") return by_device(SOCK_DGRAM, 0);
  IS("transparent-tcp") return foreign(SOCK_STREAM);
  IS("transparent-udp") return foreign(SOCK_DGRAM);
  IS("udp4") return udp(V4, 5000);
  IS("udp6") return udp(V6, 5000);
  IS("udp-mapped") return udp(MAPPED, 5000);
  IS("udp-connected4") return written(connected(V4, 5001, SOCK_DGRAM, 0));
  IS("udp-connected6") return written(connected(V6, 5001, SOCK_DGRAM, 0));
  IS("udp-cork") return corked();
  IS("quic4") return udp(V4, 443);
  IS("quic6") return udp(V6, 443);
  IS("raw-icmp") return send_to(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), V4, 0, 0);
  IS("raw-own-header") return own_header();
  IS("raw6") return send_to(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), V6, 0, 0);
  IS("ping") return send_to(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), V4, 0, 0);
  IS("mptcp") return connected(V4, 84, SOCK_STREAM, 262);
  IS("sctp") return connected(V4, 85, SOCK_STREAM, IPPROTO_SCTP);
  IS("udplite") return send_to(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE), V4, 86, 0);
  IS("io-uring-connect") return ring_connect();
  IS("io-uring-send") return ring_send(0);
  IS("io-uring-send-polled") return ring_send(IORING_SETUP_SQPOLL);
  IS("io-uring-raw") return ring_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  IS("io-uring-packet") return frame(ring_socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
  IS("packet") return frame(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
  IS("user-namespace") return in_user_namespace();
  IS("mount-namespace") return in_mount_namespace();
  errno = ENOTSUP;
  return -1;
}

static int attempt_by(const char *self, const char *what) {
  if (!strncmp(what, "setuid:", 7)) return by_helper(self, what + 7, 0);
  if (!strncmp(what, "setuid-nnp:", 11)) return by_helper(self, what + 11, 1);
  return attempt(what);
}

int main(int argc, char **argv) {
  char procs[4096];
  if (argc != 3) return 2;
  if (argv[1][0] != '/') {
    if (geteuid() != (strcmp(argv[1], "root") ? NOBODY : 0)) return 3;
    goto inside;
  }
  snprintf(procs, sizeof procs, "%s/cgroup.procs", argv[1]);
  int fd = open(procs, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "0", 1) != 1) return 2;
  close(fd);
inside:
  if (attempt_by(argv[0], argv[2]) < 0) printf("err %s\n", strerrorname_np(errno));
  else puts("ok");
  return 0;
}
