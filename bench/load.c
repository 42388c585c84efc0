/*
 * The load generator of the benchmarks, and the fast target that stands behind the proxies: one thread, one kind of
 * load a run, one line of JSON with its figures.
 *
 *   load pingpong HOST PORT CONNECTIONS BYTES SECONDS   a message each way in turn on every connection
 *   load connect HOST PORT SECONDS                      connect, one byte there and back, close
 *   load stream HOST PORT SECONDS                       one connection, as fast as it goes, to an echo server
 *   load bulk HOST PORT SECONDS TARGET                  one connection to a proxy that forwards to our port TARGET
 *   load echo PORT                                      an echo server, until it is ended
 *
 * After its line a load keeps its connections until its standard input ends, so that processes that serve one
 * connection each are still there when their CPU time is read.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (256 * 1024)        /* bytes in one send or recv of stream and bulk */
#define MAX_MESSAGE (64 * 1024)   /* bytes in one message of pingpong, and in the echo server's buffer */
#define MAX_CONNECTIONS 1024
#define CALLERS 8                 /* connections open at once in connect: enough to keep a server busy */
#define SLOWEST_US 1000000        /* latencies above are counted as this */
#define SILENCE_MS 5000           /* no answer for so long is a failure */
#define WINDOW (64L * 1024 * 1024) /* bytes under way in stream: more than the kernel's buffers hold, so only a
                                     server that reads what it cannot write is ever held back by it */

static char chunk[CHUNK];

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void failed(const char *call) { fail("%s: %s", call, strerror(errno)); }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static long number(const char *text, long least, long most) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == 0 || *end != 0 || value < least || value > most)
        fail("%s is not a number from %ld to %ld", text, least, most);
    return value;
}

static double duration(const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (*text == 0 || *end != 0 || !(value > 0 && value <= 3600)) fail("%s is not a number of seconds", text);
    return value;
}

static struct sockaddr_in address(const char *host, const char *port) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number(port, 1, 65535))};
    if (inet_pton(AF_INET, host, &place.sin_addr) != 1) fail("%s is not an IPv4 address", host);
    return place;
}

/* The line of figures is complete: show it, and keep every connection until the reader has taken its time. */
static void hold(void) {
    char byte;
    fflush(stdout);
    while (read(0, &byte, 1) > 0) continue;
}

static void watch(int poller, int operation, int fd, uint32_t events, void *what) {
    struct epoll_event event = {.events = events, .data.ptr = what};
    if (epoll_ctl(poller, operation, fd, &event) < 0) failed("epoll_ctl");
}

/* A blocking connection. `source` is the last number of its own address 127.0.0.N: ports last longer that way. */
static int dial(const struct sockaddr_in *to, int source) {
    const int on = 1;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000u + (uint32_t)source)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) failed("socket");
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0) failed("bind");
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0) failed("connect");
    return fd;
}

static int listening(const char *port) {
    const int on = 1;
    struct sockaddr_in place = address("127.0.0.1", port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) failed("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&place, sizeof place) < 0) failed("bind");
    if (listen(fd, 4096) < 0) failed("listen");
    return fd;
}

/* ---- pingpong ---- */

struct caller {
    int fd;
    size_t received; /* bytes of the message under way */
    double sent;     /* when it was sent */
};

static uint32_t latencies[SLOWEST_US + 1]; /* how many messages took so many microseconds */

static void latency(double seconds) {
    long microseconds = (long)(seconds * 1e6);
    latencies[microseconds < SLOWEST_US ? microseconds : SLOWEST_US]++;
}

static long percentile(long messages, double share) {
    long left = (long)((double)messages * share);
    for (long microseconds = 0; microseconds < SLOWEST_US; microseconds++)
        if ((left -= latencies[microseconds]) < 0) return microseconds;
    return SLOWEST_US;
}

static void speak(struct caller *caller, const char *message, size_t bytes) {
    caller->received = 0;
    caller->sent = now();
    if (send(caller->fd, message, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) failed("send");
}

/* Takes what has come of the answer; whether it is whole. */
static int answered(struct caller *caller, const char *message, size_t bytes) {
    static char answer[MAX_MESSAGE];
    ssize_t got = recv(caller->fd, answer, bytes - caller->received, 0);
    if (got < 0) failed("recv");
    if (got == 0) fail("the server closed a connection");
    if (memcmp(answer, message + caller->received, (size_t)got) != 0) fail("the answer is not what was sent");
    caller->received += (size_t)got;
    return caller->received == bytes;
}

static void pingpong(const struct sockaddr_in *to, int connections, size_t bytes, double seconds) {
    static struct caller callers[MAX_CONNECTIONS];
    struct epoll_event events[MAX_CONNECTIONS];
    int poller = epoll_create1(EPOLL_CLOEXEC);
    long messages = 0;
    for (int i = 0; i < connections; i++) {
        callers[i].fd = dial(to, 1);
        watch(poller, EPOLL_CTL_ADD, callers[i].fd, EPOLLIN, &callers[i]);
    }
    double start = now(), end = start + seconds;
    for (int i = 0; i < connections; i++) speak(&callers[i], chunk, bytes);
    for (double time = start; time < end;) {
        int ready = epoll_wait(poller, events, MAX_CONNECTIONS, SILENCE_MS);
        if (ready == 0) fail("no answer in %d ms", SILENCE_MS);
        for (int i = 0; i < ready; i++) {
            struct caller *caller = events[i].data.ptr;
            if (!answered(caller, chunk, bytes)) continue;
            latency(now() - caller->sent);
            messages++;
            speak(caller, chunk, bytes);
        }
        time = now();
    }
    double took = now() - start;
    printf("{\"messages\": %ld, \"seconds\": %.6f, \"p50_us\": %ld, \"p99_us\": %ld}\n", messages, took,
           percentile(messages, 0.5), percentile(messages, 0.99));
    hold();
}

/* ---- connect ---- */

static void call(int poller, struct caller *caller, const struct sockaddr_in *to, int source) {
    caller->fd = dial(to, source);
    watch(poller, EPOLL_CTL_ADD, caller->fd, EPOLLIN, caller);
    speak(caller, chunk, 1);
}

static void connections(const struct sockaddr_in *to, double seconds) {
    static struct caller callers[CALLERS];
    struct epoll_event events[CALLERS];
    int poller = epoll_create1(EPOLL_CLOEXEC), open = CALLERS;
    long closed = 0;
    double start = now(), end = start + seconds;
    for (int i = 0; i < CALLERS; i++) call(poller, &callers[i], to, i + 1);
    while (open > 0) {
        int ready = epoll_wait(poller, events, CALLERS, SILENCE_MS);
        if (ready == 0) fail("no answer in %d ms", SILENCE_MS);
        for (int i = 0; i < ready; i++) {
            struct caller *caller = events[i].data.ptr;
            if (!answered(caller, chunk, 1)) continue;
            close(caller->fd);
            closed++;
            if (now() < end)
                call(poller, caller, to, (int)(caller - callers) + 1);
            else
                open--;
        }
    }
    printf("{\"connections\": %ld, \"seconds\": %.6f}\n", closed, now() - start);
    hold();
}

/* ---- stream and bulk ---- */

/* Pushes into one socket for so many seconds and drains another, which may be the same, until it has all come out. The
 * kernel throws away what is drained (MSG_TRUNC), so that the load stays faster than what is measured. */
static void flow(int in, int out, double seconds, long window) {
    long sent = 0, received = 0;
    double start = now(), end = start + seconds;
    fcntl(in, F_SETFL, O_NONBLOCK);
    fcntl(out, F_SETFL, O_NONBLOCK);
    for (int sending = 1; sending || received < sent;) {
        short room = sending && sent - received < window ? POLLOUT : 0;
        struct pollfd ends[2] = {{.fd = in, .events = room}, {.fd = out, .events = POLLIN}};
        if (poll(ends, 2, SILENCE_MS) == 0) fail("%ld bytes have not come back in %d ms", sent - received, SILENCE_MS);
        if (ends[1].revents) {
            ssize_t got = recv(out, NULL, CHUNK, MSG_TRUNC);
            if (got < 0 && errno != EAGAIN) failed("recv");
            if (got == 0) fail("closed with %ld bytes missing", sent - received);
            if (got > 0) received += got;
        }
        if (ends[0].revents & (POLLERR | POLLHUP)) fail("the connection was lost");
        if (ends[0].revents & POLLOUT) {
            ssize_t put = send(in, chunk, CHUNK, MSG_NOSIGNAL);
            if (put < 0 && errno != EAGAIN) failed("send");
            if (put > 0) sent += put;
        }
        sending = sending && now() < end;
    }
    printf("{\"bytes\": %ld, \"seconds\": %.6f}\n", received, now() - start);
    hold();
}

static void bulk(const struct sockaddr_in *to, double seconds, const char *target) {
    int listener = listening(target), source = dial(to, 1);
    struct pollfd waiting = {.fd = listener, .events = POLLIN};
    if (poll(&waiting, 1, SILENCE_MS) == 0) fail("the proxy made no connection to its target in %d ms", SILENCE_MS);
    int sink = accept(listener, NULL, NULL);
    if (sink < 0) failed("accept");
    flow(source, sink, seconds, INT64_MAX);
}

/* ---- echo ---- */

struct client {
    int fd;
    size_t from, until; /* what of the buffer is still to be sent */
    char buffer[MAX_MESSAGE];
};

static void leave(struct client *client) {
    close(client->fd);
    free(client);
}

/* One read, and as much of one write as there is room for; nothing more is read while something waits. */
static void serve(int poller, struct client *client) {
    int waited = client->from < client->until;
    if (!waited) {
        ssize_t got = recv(client->fd, client->buffer, MAX_MESSAGE, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) {
            leave(client);
            return;
        }
        client->from = 0;
        client->until = (size_t)got;
    }
    ssize_t put = send(client->fd, client->buffer + client->from, client->until - client->from, MSG_NOSIGNAL);
    if (put < 0 && errno != EAGAIN) {
        leave(client);
        return;
    }
    if (put > 0) client->from += (size_t)put;
    int waits = client->from < client->until;
    if (waits != waited) watch(poller, EPOLL_CTL_MOD, client->fd, waits ? EPOLLOUT : EPOLLIN, client);
}

static void welcome(int poller, int listener) {
    const int on = 1;
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *client = malloc(sizeof *client);
        if (client == NULL) failed("malloc");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        client->fd = fd;
        client->from = client->until = 0;
        watch(poller, EPOLL_CTL_ADD, fd, EPOLLIN, client);
    }
}

static void echo(const char *port) {
    struct epoll_event events[MAX_CONNECTIONS];
    int listener = listening(port), poller = epoll_create1(EPOLL_CLOEXEC);
    watch(poller, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        int ready = epoll_wait(poller, events, MAX_CONNECTIONS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == NULL)
                welcome(poller, listener);
            else
                serve(poller, events[i].data.ptr);
        }
    }
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < CHUNK; i++) chunk[i] = (char)('a' + i % 26);
    if (strcmp(what, "echo") == 0 && count == 3) echo(words[2]);
    if (count < 5) fail("usage: load pingpong|connect|stream|bulk|echo ..., see the top of load.c");
    struct sockaddr_in to = address(words[2], words[3]);
    if (strcmp(what, "pingpong") == 0 && count == 7)
        pingpong(&to, (int)number(words[4], 1, MAX_CONNECTIONS), (size_t)number(words[5], 1, MAX_MESSAGE),
                 duration(words[6]));
    else if (strcmp(what, "connect") == 0 && count == 5)
        connections(&to, duration(words[4]));
    else if (strcmp(what, "stream") == 0 && count == 5) {
        int fd = dial(&to, 1);
        flow(fd, fd, duration(words[4]), WINDOW);
    } else if (strcmp(what, "bulk") == 0 && count == 6)
        bulk(&to, duration(words[4]), words[5]);
    else
        fail("usage: load pingpong|connect|stream|bulk|echo ..., see the top of load.c");
    return 0;
}
