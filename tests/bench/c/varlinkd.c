/*
 * The least a userdb provider can be: one epoll loop, replies made beforehand, names found by a hash.
 * It trusts its callers: no limits, no JSON parser, no filters, no times; and its records never change.
 *
 * varlinkd SOCKET RECORDS: a line of RECORDS is a login, a UID and the JSON of the record, parted by tabs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct user {
    char *name;
    uint32_t uid;
    char *reply, *pair; /* with the NUL that ends a message */
    size_t reply_length, pair_length;
};

struct connection {
    int fd, waiting; /* for room in the socket */
    size_t have;
    char in[4096];
    const char *out; /* what is left to write */
    size_t left;
};

static struct user *users;
static size_t count, slots;
static uint32_t *by_name, *by_uid;
static char *everything;
static size_t everything_length;

static uint32_t hash(const char *name, size_t length) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)name[i]) * 16777619u;
    return h;
}

static void load(const char *path) {
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    if (!file) {
        perror(path);
        exit(1);
    }
    while (getline(&line, &room, file) > 0) {
        char *name = strtok(line, "\t"), *uid = strtok(NULL, "\t"), *json = strtok(NULL, "\n");
        struct user *user;
        users = realloc(users, (count + 1) * sizeof *users);
        user = &users[count++];
        user->name = strdup(name);
        user->uid = strtoul(uid, NULL, 10);
        user->reply_length =
            asprintf(&user->reply, "{\"parameters\":{\"record\":%s,\"incomplete\":false}}", json) + 1;
        user->pair_length = asprintf(&user->pair,
            "{\"parameters\":{\"userName\":\"%s\",\"groupName\":\"team\"}}", name) + 1;
    }
    free(line);
    fclose(file);
    for (slots = 16; slots < 2 * count;)
        slots *= 2;
    by_name = calloc(slots, sizeof *by_name);
    by_uid = calloc(slots, sizeof *by_uid);
    for (size_t i = 0; i < count; i++) {
        size_t at = hash(users[i].name, strlen(users[i].name)) & (slots - 1);
        while (by_name[at])
            at = (at + 1) & (slots - 1);
        by_name[at] = i + 1;
        at = (users[i].uid * 2654435761u) & (slots - 1);
        while (by_uid[at])
            at = (at + 1) & (slots - 1);
        by_uid[at] = i + 1;
        everything_length += users[i].reply_length + strlen(",\"continues\":true");
    }
    char *end = everything = malloc(everything_length + 1);
    for (size_t i = 0; i < count; i++) {
        const char *rest = i + 1 < count ? ",\"continues\":true}" : "}";
        memcpy(end, users[i].reply, users[i].reply_length - 2);
        end = stpcpy(end + users[i].reply_length - 2, rest) + 1;
    }
    everything_length = end - everything;
}

static struct user *named(const char *name, size_t length) {
    for (size_t at = hash(name, length) & (slots - 1); by_name[at]; at = (at + 1) & (slots - 1)) {
        struct user *user = &users[by_name[at] - 1];
        if (!strncmp(user->name, name, length) && !user->name[length])
            return user;
    }
    return NULL;
}

static struct user *numbered(uint32_t uid) {
    for (size_t at = (uid * 2654435761u) & (slots - 1); by_uid[at]; at = (at + 1) & (slots - 1))
        if (users[by_uid[at] - 1].uid == uid)
            return &users[by_uid[at] - 1];
    return NULL;
}

static const char NO_RECORD[] = "{\"error\":\"io.systemd.UserDatabase.NoRecordFound\",\"parameters\":{}}";

static void answer(struct connection *connection, const char *message) {
    const char *name = strstr(message, "\"userName\":\""), *uid = strstr(message, "\"uid\":");
    struct user *user = NULL;
    if (name) {
        name += strlen("\"userName\":\"");
        user = named(name, strcspn(name, "\""));
    } else if (uid) {
        user = numbered(strtoul(uid + strlen("\"uid\":"), NULL, 10));
    } else {
        connection->out = everything;
        connection->left = everything_length;
        return;
    }
    if (!user) {
        connection->out = NO_RECORD;
        connection->left = sizeof NO_RECORD;
    } else if (strstr(message, "GetMemberships")) {
        connection->out = user->pair;
        connection->left = user->pair_length;
    } else {
        connection->out = user->reply;
        connection->left = user->reply_length;
    }
}

static int loop;

/* An edge for each reply that is taken would wake us for nothing, so room is only asked about when there was none. */
static void await(struct connection *connection, uint32_t what) {
    struct epoll_event event = {.events = what | EPOLLET, .data.ptr = connection};
    epoll_ctl(loop, EPOLL_CTL_MOD, connection->fd, &event);
}

/* False: the connection is over. */
static int serve(struct connection *connection) {
    int drained = 0;
    for (;;) {
        while (connection->left) {
            ssize_t sent = send(connection->fd, connection->out, connection->left, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent < 0 && errno == EAGAIN && !connection->waiting) {
                /* Tried again after that: room may have come before anybody was told to tell. */
                connection->waiting = 1;
                await(connection, EPOLLOUT);
                continue;
            }
            if (sent < 0)
                return errno == EAGAIN;
            connection->out += sent;
            connection->left -= sent;
            if (!connection->left && connection->waiting) {
                connection->waiting = 0;
                drained = 0;
                await(connection, EPOLLIN);
            }
        }
        char *end = memchr(connection->in, 0, connection->have);
        if (end) {
            size_t length = end + 1 - connection->in;
            answer(connection, connection->in);
            memmove(connection->in, end + 1, connection->have - length);
            connection->have -= length;
            continue;
        }
        if (drained)
            return 1;
        size_t room = sizeof connection->in - connection->have;
        ssize_t got = room ? recv(connection->fd, connection->in + connection->have, room, MSG_DONTWAIT) : 0;
        if (got <= 0)
            return got < 0 && errno == EAGAIN;
        connection->have += got;
        drained = (size_t)got < room;
    }
}

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct rlimit files = {65536, 65536};
    struct epoll_event events[64], event = {.events = EPOLLIN};
    int listener;
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (argc != 3)
        return 2;
    setrlimit(RLIMIT_NOFILE, &files);
    load(argv[2]);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    unlink(argv[1]);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror(argv[1]);
        return 1;
    }
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(loop, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection) {
                if (!serve(connection)) {
                    close(connection->fd);
                    free(connection);
                }
                continue;
            }
            for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
                struct epoll_event added = {.events = EPOLLIN | EPOLLET};
                connection = calloc(1, sizeof *connection);
                connection->fd = fd;
                added.data.ptr = connection;
                epoll_ctl(loop, EPOLL_CTL_ADD, fd, &added);
            }
        }
    }
}
