/* Preloaded into servers under test. Does nothing unless an environment variable says so.
 *
 * CM_SYNC_ROOT, CM_SYNC_SHADOW: what a disk would still have after a loss of power. Below the root, each successful
 * fsync of a file copies its bytes to SHADOW/file-INODE, and each of a folder its names to SHADOW/folder-INODE.
 * Nothing else is ever durable: not a byte written later, not a file whose folder was not synced. `power.py` makes a
 * tree of it again.
 *
 * CM_CLOCK_FILE: a file with a number of seconds by which this process's time of day is off.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int below_root(int fd, const char *root) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, root, strlen(root)) == 0;
}

static void copy_bytes(int from, int to) {
    char buffer[1 << 16];
    off_t at = 0;
    ssize_t got;
    while ((got = pread(from, buffer, sizeof buffer, at)) > 0) {
        if (write(to, buffer, (size_t)got) != got) abort();
        at += got;
    }
}

static void copy_names(int from, int to) {
    DIR *folder = fdopendir(openat(from, ".", O_RDONLY | O_DIRECTORY));
    if (!folder) abort();
    for (struct dirent *one; (one = readdir(folder));)
        if (strcmp(one->d_name, ".") && strcmp(one->d_name, "..")) dprintf(to, "%lu %s\n", (unsigned long)one->d_ino, one->d_name);
    closedir(folder);
}

static void keep(int fd) {
    const char *root = getenv("CM_SYNC_ROOT"), *shadow = getenv("CM_SYNC_SHADOW");
    struct stat about;
    if (!root || !shadow || fstat(fd, &about) || !below_root(fd, root)) return;
    int folder = S_ISDIR(about.st_mode);
    char path[PATH_MAX], part[PATH_MAX + 8], own[64];
    snprintf(path, sizeof path, "%s/%s-%lu", shadow, folder ? "folder" : "file", (unsigned long)about.st_ino);
    snprintf(part, sizeof part, "%s.part", path);
    int to = open(part, O_WRONLY | O_CREAT | O_TRUNC, 0600), from = fd;
    if (!folder) { /* SQLite may have opened it for writing only */
        snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
        from = open(own, O_RDONLY);
    }
    if (to < 0 || from < 0) abort();
    if (folder) copy_names(from, to); else copy_bytes(from, to);
    close(to);
    if (from != fd) close(from);
    if (rename(part, path)) abort();
}

int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    int result = real(fd);
    if (!result) keep(fd);
    return result;
}

int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    int result = real(fd);
    if (!result) keep(fd);
    return result;
}

static long off(void) {
    const char *name = getenv("CM_CLOCK_FILE");
    if (!name) return 0;
    char text[32] = {0};
    int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += off();
    return result;
}
