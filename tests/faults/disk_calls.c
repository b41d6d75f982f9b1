/* Stands between a process and the C library, and sees every call that changes a folder on disk.

   Loaded by LD_PRELOAD. Until `watch` is called, all calls pass through. From then on each call
   that changes something below the folder is counted and noted in a log, in the order in which
   they are made; before the call with a given number the process is killed, or within it: then
   part of its bytes are passed on first. The log is a file elsewhere. An entry is a line

       number TAB kind TAB path TAB other path TAB offset TAB length TAB payload NEWLINE

   and then as many bytes of what was written as `payload` says. A `-shm` file of SQLite is memory
   that processes share, and no part of what is kept: it is left out. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define LONGEST (2 * PATH_MAX)

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static int watching, keeps_bytes, log_file = -1;
static char root[LONGEST];
static long calls, writes, fatal, kept_of_100;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void put(const void *bytes, size_t length) {
    const char *next = bytes;
    while (length > 0) {
        ssize_t done = syscall(SYS_write, log_file, next, length);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) abort();
        next += done;
        length -= done;
    }
}

static void enter(const char *kind, const char *path, const char *other, off_t offset,
                  size_t length, const void *bytes) {
    char line[3 * LONGEST];
    size_t payload = keeps_bytes && bytes ? length : 0;
    int size = snprintf(line, sizeof line, "%ld\t%s\t%s\t%s\t%lld\t%zu\t%zu\n", calls, kind,
                        path, other, (long long)offset, length, payload);
    if (size < 0 || (size_t)size >= sizeof line) abort();
    put(line, size);
    if (payload) put(bytes, payload);
}

/* Begin to watch `folder`. The process dies before the call with the number `at` (0: before none);
   where `kept` is not 0, within the write with this number, of those of more than one byte, when so
   many percent of its bytes are written. */
void watch(const char *folder, const char *log, int with_bytes, long at, long kept) {
    snprintf(root, sizeof root, "%s", folder);
    log_file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_file < 0) abort();
    keeps_bytes = with_bytes;
    fatal = at;
    kept_of_100 = kept;
    calls = writes = 0;
    watching = 1;
}

/* Put a word of the process itself into the log, which holds it before this returns. */
void note(const char *text) {
    pthread_mutex_lock(&one_at_a_time);
    enter("note", text, "", 0, 0, NULL);
    pthread_mutex_unlock(&one_at_a_time);
}

static int is_watched(const char *path) {
    size_t length = strlen(root), whole = strlen(path);
    if (strncmp(path, root, length) != 0 || (path[length] != '/' && path[length] != 0)) return 0;
    return whole < 4 || strcmp(path + whole - 4, "-shm") != 0;
}

static int path_of(int file, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, LONGEST - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

static int path_at(int folder, const char *name, char *path) {
    if (name[0] == '/') return snprintf(path, LONGEST, "%s", name) < LONGEST;
    char above[LONGEST];
    if (folder == AT_FDCWD ? getcwd(above, sizeof above) == NULL : !path_of(folder, above)) return 0;
    return snprintf(path, LONGEST, "%s/%s", above, name) < LONGEST;
}

static void die(const char *kind, const char *path, size_t kept, size_t length) {
    enter("killed", path, kind, (off_t)kept, length, NULL);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Whether a call with a descriptor or a path is watched: it then holds the mutex until `end`. */
static int begin_file(int file, char *path) {
    if (!watching || !path_of(file, path) || !is_watched(path)) return 0;
    pthread_mutex_lock(&one_at_a_time);
    calls++;
    return 1;
}

static int begin_path(int folder, const char *name, char *path) {
    if (!watching || !path_at(folder, name, path) || !is_watched(path)) return 0;
    pthread_mutex_lock(&one_at_a_time);
    calls++;
    return 1;
}

static void end(void) {
    int error = errno;
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
}

/* A call without bytes dies before it is made. */
static void survive(const char *kind, const char *path) {
    if (kept_of_100 == 0 && calls == fatal) die(kind, path, 0, 0);
}

/* How many bytes of a write are to be passed on: all, unless the process dies in it. */
static size_t passed_on(const char *path, size_t length) {
    survive("write", path);
    if (kept_of_100 == 0 || length < 2 || ++writes != fatal) return length;
    size_t kept = length * kept_of_100 / 100;
    return kept ? kept : 1;
}

static void written(const char *path, off_t offset, ssize_t done, size_t length, const void *bytes) {
    int error = errno;
    if (kept_of_100 > 0 && length > 1 && writes == fatal)
        die("write", path, done < 0 ? 0 : done, length);
    if (done >= 0) enter("write", path, "", offset, done, bytes);
    errno = error;
}

static off_t place(int file) {
    struct stat found;
    if (fcntl(file, F_GETFL) & O_APPEND) return fstat(file, &found) == 0 ? found.st_size : -1;
    return lseek(file, 0, SEEK_CUR);
}

ssize_t write(int file, const void *bytes, size_t length) {
    REAL(write);
    char path[LONGEST];
    if (!begin_file(file, path)) return real(file, bytes, length);
    off_t offset = place(file);
    ssize_t done = real(file, bytes, passed_on(path, length));
    written(path, offset, done, length, bytes);
    end();
    return done;
}

static ssize_t write_at(int file, const void *bytes, size_t length, off_t offset) {
    char path[LONGEST];
    if (!begin_file(file, path)) return syscall(SYS_pwrite64, file, bytes, length, offset);
    ssize_t done = syscall(SYS_pwrite64, file, bytes, passed_on(path, length), offset);
    written(path, offset, done, length, bytes);
    end();
    return done;
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) {
    return write_at(file, bytes, length, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
    return write_at(file, bytes, length, offset);
}

/* Several pieces are put together, and written as one. */
static ssize_t write_pieces(int file, const struct iovec *pieces, int count, off_t offset) {
    size_t length = 0;
    for (int i = 0; i < count; i++) length += pieces[i].iov_len;
    char *bytes = malloc(length ? length : 1), *next = bytes;
    if (!bytes) abort();
    for (int i = 0; i < count; i++) {
        memcpy(next, pieces[i].iov_base, pieces[i].iov_len);
        next += pieces[i].iov_len;
    }
    ssize_t done = offset < 0 ? write(file, bytes, length) : write_at(file, bytes, length, offset);
    int error = errno;
    free(bytes);
    errno = error;
    return done;
}

ssize_t writev(int file, const struct iovec *pieces, int count) {
    REAL(writev);
    char path[LONGEST];
    if (!watching || !path_of(file, path) || !is_watched(path)) return real(file, pieces, count);
    return write_pieces(file, pieces, count, -1);
}

ssize_t pwritev(int file, const struct iovec *pieces, int count, off_t offset) {
    return write_pieces(file, pieces, count, offset);
}

ssize_t pwritev64(int file, const struct iovec *pieces, int count, off64_t offset) {
    return write_pieces(file, pieces, count, offset);
}

/* What the kernel copies from file to file is copied here by reading and writing. */
static ssize_t copy(int from, off_t *from_place, int to, off_t *to_place, size_t length) {
    size_t most = length < (1 << 20) ? length : (1 << 20);
    char *bytes = malloc(most ? most : 1);
    if (!bytes) abort();
    ssize_t found = from_place ? pread(from, bytes, most, *from_place) : read(from, bytes, most);
    ssize_t done = found <= 0 ? found
                 : to_place   ? write_at(to, bytes, found, *to_place)
                              : write(to, bytes, found);
    if (done > 0 && from_place) *from_place += done;
    if (done > 0 && to_place) *to_place += done;
    int error = errno;
    free(bytes);
    errno = error;
    return done;
}

ssize_t sendfile(int to, int from, off_t *offset, size_t length) {
    REAL(sendfile);
    char path[LONGEST];
    if (!watching || !path_of(to, path) || !is_watched(path)) return real(to, from, offset, length);
    return copy(from, offset, to, NULL, length);
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t length) {
    return sendfile(to, from, offset, length);
}

ssize_t copy_file_range(int from, off64_t *from_place, int to, off64_t *to_place, size_t length,
                        unsigned int flags) {
    REAL(copy_file_range);
    char path[LONGEST];
    if (!watching || !path_of(to, path) || !is_watched(path))
        return real(from, from_place, to, to_place, length, flags);
    return copy(from, from_place, to, to_place, length);
}

static int sync_with(long number, int file) {
    char path[LONGEST];
    if (!begin_file(file, path)) return syscall(number, file);
    survive("sync", path);
    int failed = syscall(number, file);
    if (!failed) enter("sync", path, "", 0, 0, NULL);
    end();
    return failed;
}

int fsync(int file) { return sync_with(SYS_fsync, file); }

int fdatasync(int file) { return sync_with(SYS_fdatasync, file); }

static int cut(int file, off_t length) {
    char path[LONGEST];
    if (!begin_file(file, path)) return syscall(SYS_ftruncate, file, length);
    survive("cut", path);
    int failed = syscall(SYS_ftruncate, file, length);
    if (!failed) enter("cut", path, "", length, 0, NULL);
    end();
    return failed;
}

int ftruncate(int file, off_t length) { return cut(file, length); }

int ftruncate64(int file, off64_t length) { return cut(file, length); }

static int cut_path(const char *name, off_t length) {
    char path[LONGEST];
    if (!begin_path(AT_FDCWD, name, path)) return syscall(SYS_truncate, name, length);
    survive("cut", path);
    int failed = syscall(SYS_truncate, name, length);
    if (!failed) enter("cut", path, "", length, 0, NULL);
    end();
    return failed;
}

int truncate(const char *name, off_t length) { return cut_path(name, length); }

int truncate64(const char *name, off64_t length) { return cut_path(name, length); }

static int open_at(int folder, const char *name, int flags, mode_t mode) {
    char path[LONGEST];
    struct stat found;
    if (!(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE ||
        !watching || !path_at(folder, name, path) || !is_watched(path))
        return syscall(SYS_openat, folder, name, flags, mode);
    int is_there = fstatat(folder, name, &found, 0) == 0;
    if (is_there ? !(flags & O_TRUNC) : !(flags & O_CREAT))
        return syscall(SYS_openat, folder, name, flags, mode);
    pthread_mutex_lock(&one_at_a_time);
    calls++;
    survive(is_there ? "cut" : "make", path);
    int file = syscall(SYS_openat, folder, name, flags, mode);
    if (file >= 0) enter(is_there ? "cut" : "make", path, "", 0, 0, NULL);
    end();
    return file;
}

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open(const char *name, int flags, ...) { MODE return open_at(AT_FDCWD, name, flags, mode); }

int open64(const char *name, int flags, ...) {
    MODE return open_at(AT_FDCWD, name, flags | O_LARGEFILE, mode);
}

int openat(int folder, const char *name, int flags, ...) {
    MODE return open_at(folder, name, flags, mode);
}

int openat64(int folder, const char *name, int flags, ...) {
    MODE return open_at(folder, name, flags | O_LARGEFILE, mode);
}

int creat(const char *name, mode_t mode) {
    return open_at(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

static int rename_at(int from, const char *old, int to, const char *new, unsigned int flags) {
    char path[LONGEST], other[LONGEST];
    if (!path_at(to, new, other)) abort();
    if (!begin_path(from, old, path)) return syscall(SYS_renameat2, from, old, to, new, flags);
    survive("rename", path);
    int failed = syscall(SYS_renameat2, from, old, to, new, flags);
    if (!failed) enter("rename", path, other, flags, 0, NULL);
    end();
    return failed;
}

int rename(const char *old, const char *new) { return rename_at(AT_FDCWD, old, AT_FDCWD, new, 0); }

int renameat(int from, const char *old, int to, const char *new) {
    return rename_at(from, old, to, new, 0);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned int flags) {
    return rename_at(from, old, to, new, flags);
}

static int remove_at(int folder, const char *name, int flags) {
    char path[LONGEST];
    if (!begin_path(folder, name, path)) return syscall(SYS_unlinkat, folder, name, flags);
    survive("remove", path);
    int failed = syscall(SYS_unlinkat, folder, name, flags);
    if (!failed) enter("remove", path, "", 0, 0, NULL);
    end();
    return failed;
}

int unlink(const char *name) { return remove_at(AT_FDCWD, name, 0); }

int unlinkat(int folder, const char *name, int flags) { return remove_at(folder, name, flags); }

int rmdir(const char *name) { return remove_at(AT_FDCWD, name, AT_REMOVEDIR); }

static int make_folder(int folder, const char *name, mode_t mode) {
    char path[LONGEST];
    if (!begin_path(folder, name, path)) return syscall(SYS_mkdirat, folder, name, mode);
    survive("make folder", path);
    int failed = syscall(SYS_mkdirat, folder, name, mode);
    if (!failed) enter("make folder", path, "", 0, 0, NULL);
    end();
    return failed;
}

int mkdir(const char *name, mode_t mode) { return make_folder(AT_FDCWD, name, mode); }

int mkdirat(int folder, const char *name, mode_t mode) { return make_folder(folder, name, mode); }

static int link_at(int from, const char *old, int to, const char *new, int flags) {
    char path[LONGEST], other[LONGEST];
    if (!path_at(to, new, other)) abort();
    if (!begin_path(from, old, path)) return syscall(SYS_linkat, from, old, to, new, flags);
    survive("link", path);
    int failed = syscall(SYS_linkat, from, old, to, new, flags);
    if (!failed) enter("link", path, other, 0, 0, NULL);
    end();
    return failed;
}

int link(const char *old, const char *new) { return link_at(AT_FDCWD, old, AT_FDCWD, new, 0); }

int linkat(int from, const char *old, int to, const char *new, int flags) {
    return link_at(from, old, to, new, flags);
}
