/* A resolver without libc's: what a static Go or musl program does. Prints the address, or the response code. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  unsigned char out[300] = {0x12, 0x34, 1, 0, 0, 1}, in[1500];
  size_t at = 12;
  for (char *label = strtok(argv[2], "."); label; label = strtok(NULL, ".")) {
    size_t n = strlen(label);
    out[at++] = (unsigned char)n;
    memcpy(out + at, label, n);
    at += n;
  }
  out[at++] = 0, out[at++] = 0, out[at++] = 1, out[at++] = 0, out[at++] = 1;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)}, from;
  inet_pton(AF_INET, argv[1], &to.sin_addr);
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  struct timeval patience = {.tv_sec = 5};
  setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (sendto(s, out, at, 0, (struct sockaddr *)&to, sizeof to) < 0) return perror("sendto"), 1;
  socklen_t length = sizeof from;
  ssize_t n = recvfrom(s, in, sizeof in, 0, (struct sockaddr *)&from, &length);
  if (n < 12) return perror("recvfrom"), 1;
  /* As strict as Go: the answer comes from whom was asked. */
  if (from.sin_addr.s_addr != to.sin_addr.s_addr || from.sin_port != to.sin_port) return puts("another source"), 1;
  if (in[0] != 0x12 || in[1] != 0x34) return puts("another id"), 1;
  if (in[3] & 15) return printf("rcode %d\n", in[3] & 15), 0;
  if (n < (ssize_t)at + 16 || !in[7]) return puts("no answer"), 0;
  char text[64];
  inet_ntop(AF_INET, in + n - 4, text, sizeof text);
  return puts(text), close(s), 0;
}
