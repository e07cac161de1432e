/* Lets the n-th call of one function of the C library on a directory tree fail, with an errno of choice.

   Loaded by LD_PRELOAD. Nothing fails before failing_arm was called; failing_trace writes a line for each call that
   could fail. A forked process goes on counting where its parent was. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <unistd.h>

static char root[PATH_MAX];
static char armed[32];
static int left, code, trace = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void failing_arm(const char *tree, const char *call, int number, int error) {
    snprintf(root, sizeof root, "%s", tree);
    snprintf(armed, sizeof armed, "%s", call);
    left = number;
    code = error;
}

void failing_trace(const char *tree, const char *path) {
    trace = REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    snprintf(root, sizeof root, "%s", tree);
}

/* Whether a path, relative to a directory's descriptor, lies in the tree. */
static int is_inside(int directory, const char *path) {
    char link[64], base[PATH_MAX];
    size_t length = strlen(root);
    if (!length)
        return 0;
    if (path && path[0] == '/')
        return !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
    if (directory == AT_FDCWD)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t size = REAL(readlink)(link, base, sizeof base - 1);
    if (size < 0)
        return 0;
    base[size] = 0;
    return is_inside(AT_FDCWD, base);
}

static int fails(const char *call, int directory, const char *path) {
    int saved = errno, failing = 0;
    if (is_inside(directory, path)) {
        pthread_mutex_lock(&mutex);
        if (trace >= 0)
            dprintf(trace, "%s %s\n", call, path ? path : "");
        if (armed[0] && !strcmp(armed, call) && left > 0)
            failing = --left == 0;
        pthread_mutex_unlock(&mutex);
    }
    errno = failing ? code : saved;
    return failing;
}

#define OPEN(name, at, head, place, ...)                                                                              \
    int name head {                                                                                                   \
        mode_t mode = 0;                                                                                              \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                                        \
            va_list rest;                                                                                             \
            va_start(rest, flags);                                                                                    \
            mode = va_arg(rest, mode_t);                                                                              \
            va_end(rest);                                                                                             \
        }                                                                                                             \
        return fails("open", at, place) ? -1 : REAL(name)(__VA_ARGS__, mode);                                         \
    }
OPEN(open, AT_FDCWD, (const char *path, int flags, ...), path, path, flags)
OPEN(open64, AT_FDCWD, (const char *path, int flags, ...), path, path, flags)
OPEN(openat, directory, (int directory, const char *path, int flags, ...), path, directory, path, flags)
OPEN(openat64, directory, (int directory, const char *path, int flags, ...), path, directory, path, flags)

#define CALL(type, name, call, at, place, head, ...)                                                                  \
    type name head { return fails(call, at, place) ? (type)-1 : REAL(name)(__VA_ARGS__); }
CALL(ssize_t, write, "write", fd, NULL, (int fd, const void *data, size_t size), fd, data, size)
CALL(ssize_t, pwrite, "write", fd, NULL, (int fd, const void *data, size_t size, off_t at), fd, data, size, at)
CALL(ssize_t, pwrite64, "write", fd, NULL, (int fd, const void *data, size_t size, off64_t at), fd, data, size, at)
CALL(ssize_t, read, "read", fd, NULL, (int fd, void *data, size_t size), fd, data, size)
CALL(ssize_t, pread, "read", fd, NULL, (int fd, void *data, size_t size, off_t at), fd, data, size, at)
CALL(ssize_t, pread64, "read", fd, NULL, (int fd, void *data, size_t size, off64_t at), fd, data, size, at)
CALL(int, fsync, "fsync", fd, NULL, (int fd), fd)
CALL(int, fdatasync, "fsync", fd, NULL, (int fd), fd)
CALL(int, syncfs, "syncfs", fd, NULL, (int fd), fd)
CALL(int, ftruncate, "ftruncate", fd, NULL, (int fd, off_t size), fd, size)
CALL(int, ftruncate64, "ftruncate", fd, NULL, (int fd, off64_t size), fd, size)
CALL(int, flock, "flock", fd, NULL, (int fd, int operation), fd, operation)
CALL(int, fchmod, "chmod", fd, NULL, (int fd, mode_t mode), fd, mode)
CALL(int, chmod, "chmod", AT_FDCWD, path, (const char *path, mode_t mode), path, mode)
CALL(int, fchmodat, "chmod", at, path, (int at, const char *path, mode_t mode, int flags), at, path, mode, flags)
CALL(int, rename, "rename", AT_FDCWD, to, (const char *from, const char *to), from, to)
CALL(int, renameat, "rename", at, to, (int from_at, const char *from, int at, const char *to), from_at, from, at, to)
CALL(int, renameat2, "rename", at, to, (int from_at, const char *from, int at, const char *to, unsigned int flags),
     from_at, from, at, to, flags)
CALL(int, link, "link", AT_FDCWD, to, (const char *from, const char *to), from, to)
CALL(int, linkat, "link", at, to, (int from_at, const char *from, int at, const char *to, int flags), from_at, from,
     at, to, flags)
CALL(int, symlink, "symlink", AT_FDCWD, path, (const char *target, const char *path), target, path)
CALL(int, symlinkat, "symlink", at, path, (const char *target, int at, const char *path), target, at, path)
CALL(int, unlink, "unlink", AT_FDCWD, path, (const char *path), path)
CALL(int, unlinkat, "unlink", at, path, (int at, const char *path, int flags), at, path, flags)
CALL(int, mkdir, "mkdir", AT_FDCWD, path, (const char *path, mode_t mode), path, mode)
CALL(int, mkdirat, "mkdir", at, path, (int at, const char *path, mode_t mode), at, path, mode)
CALL(int, rmdir, "rmdir", AT_FDCWD, path, (const char *path), path)
CALL(int, stat, "stat", AT_FDCWD, path, (const char *path, struct stat *found), path, found)
CALL(int, lstat, "stat", AT_FDCWD, path, (const char *path, struct stat *found), path, found)
CALL(int, fstat, "stat", fd, NULL, (int fd, struct stat *found), fd, found)
CALL(int, fstatat, "stat", at, path, (int at, const char *path, struct stat *found, int flags), at, path, found, flags)
CALL(int, stat64, "stat", AT_FDCWD, path, (const char *path, struct stat64 *found), path, found)
CALL(int, lstat64, "stat", AT_FDCWD, path, (const char *path, struct stat64 *found), path, found)
CALL(int, fstat64, "stat", fd, NULL, (int fd, struct stat64 *found), fd, found)
CALL(int, fstatat64, "stat", at, path, (int at, const char *path, struct stat64 *found, int flags), at, path, found,
     flags)

CALL(int, statvfs, "statvfs", AT_FDCWD, path, (const char *path, struct statvfs *found), path, found)
CALL(int, fstatvfs, "statvfs", fd, NULL, (int fd, struct statvfs *found), fd, found)
CALL(int, statvfs64, "statvfs", AT_FDCWD, path, (const char *path, struct statvfs64 *found), path, found)
CALL(int, fstatvfs64, "statvfs", fd, NULL, (int fd, struct statvfs64 *found), fd, found)
CALL(int, posix_fallocate64, "write", fd, NULL, (int fd, off64_t at, off64_t size), fd, at, size)
CALL(ssize_t, readlink, "readlink", AT_FDCWD, path, (const char *path, char *link, size_t size), path, link, size)

DIR *opendir(const char *path) { return fails("opendir", AT_FDCWD, path) ? NULL : REAL(opendir)(path); }
