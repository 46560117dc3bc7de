/* Checks a naive float32 layer norm against golden vectors, on a little-endian machine:
 *     python -m numpy_norms golden export vectors
 *     cc -O2 -o check_golden check_golden.c -lm && ./check_golden vectors/layer_norm-float32.npz
 * Exit status 0: every array within its tolerance. -DSUM=float adds up in float. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef SUM
#define SUM double
#endif
typedef struct { char name[128]; long size; float *values; double *wide; } Array;
static Array arrays[1024]; static int count;

static void forward(long rows, long D, const float *x, const float *gamma, const float *beta,
                    float eps, float *y, float *mean, float *rstd) {
    for (long i = 0; i < rows; i++, x += D, y += D) {
        SUM sum = 0, squares = 0;
        for (long j = 0; j < D; j++) sum += x[j];
        SUM mu = sum / D;                                                    /* (1) */
        for (long j = 0; j < D; j++) squares += (x[j] - mu) * (x[j] - mu);
        SUM var = squares / D, r = 1 / sqrt(var + eps);                      /* (2), (3) */
        for (long j = 0; j < D; j++) y[j] = gamma[j] * r * (x[j] - mu) + beta[j];
        mean[i] = mu, rstd[i] = r;
    }
}

static void backward(long rows, long D, const float *x, const float *gamma, const float *dy,
                     const float *mean, const float *rstd, float *dx, float *dgamma, float *dbeta) {
    for (long i = 0; i < rows; i++, x += D, dy += D, dx += D) {
        SUM g = 0, gh = 0, mu = mean[i], r = rstd[i];
        for (long j = 0; j < D; j++) {
            SUM h = r * (x[j] - mu), dx_hat = (SUM)gamma[j] * dy[j];         /* (4), (8) */
            g += dx_hat, gh += dx_hat * h;
            dgamma[j] += dy[j] * h, dbeta[j] += dy[j];                       /* (7), (6) */
        }
        for (long j = 0; j < D; j++)                                         /* (12) */
            dx[j] = r * ((SUM)gamma[j] * dy[j] - (g + r * (x[j] - mu) * gh) / D);
    }
}

static void load(const char *path) { /* a zip of stored .npy files, each behind its sizes */
    FILE *file = fopen(path, "rb");
    unsigned char head[30]; /* of one file in the zip */
    if (!file) perror(path), exit(2);
    while (fread(head, 30, 1, file) == 1 && !memcmp(head, "PK\3\4", 4) && count < 1024) {
        unsigned bytes, name = head[26] | head[27] << 8, extra = head[28] | head[29] << 8;
        Array *a = &arrays[count++];
        memcpy(&bytes, head + 22, 4);
        char *npy = malloc(bytes), *data;
        if (name >= sizeof a->name || fread(a->name, name, 1, file) != 1
            || fseek(file, extra, SEEK_CUR) || fread(npy, bytes, 1, file) != 1) exit(2);
        data = npy + 10 + (unsigned char)npy[8] + 256 * (unsigned char)npy[9];
        data[-1] = 0; /* in place of the line feed that ends the header */
        int width = strstr(npy + 10, "<f8") ? 8 : 4; /* bytes of a number */
        a->size = (npy + bytes - data) / width;
        a->values = calloc(a->size, 4), a->wide = calloc(a->size, 8);
        memcpy(width == 8 ? (void *)a->wide : (void *)a->values, data, width * a->size);
    }
    fclose(file);
}

static Array *find(const char *of, const char *name, const char *suffix) {
    char path[256];
    snprintf(path, sizeof path, "%s%s%s.npy", of, name, suffix);
    for (int i = 0; i < count; i++) if (!strcmp(arrays[i].name, path)) return &arrays[i];
    fprintf(stderr, "%s is not in the file\n", path), exit(2);
}

static int differs(const char *of, const char *name, const float *got) {
    Array *expected = find(of, name, ".float64"), *tolerance = find(of, name, ".tolerance");
    for (long i = 0; i < expected->size; i++) {
        double e = expected->wide[i], t = tolerance->wide[i];
        if (isnan(e) ? isnan(got[i]) : fabs(got[i] - e) <= t) continue;
        return printf("%s%s[%ld] = %g, expected %g +- %g\n", of, name, i, got[i], e, t);
    }
    return 0;
}

int main(int arguments, char **argument) {
    const char *names[] = {"y", "mean", "rstd", "dx", "dgamma", "dbeta"};
    int checked = 0, wrong = 0;
    if (arguments != 2) return fprintf(stderr, "usage: check_golden FILE.npz\n"), 2;
    load(argument[1]);
    for (int k = 0; k < count; k++) {
        char of[128], *end = strstr(strcpy(of, arrays[k].name), "/x.npy");
        if (!end) continue;
        end[1] = 0; /* "large_mean/" */
        float *x = arrays[k].values, *gamma = find(of, "gamma", "")->values, *got[6];
        long D = find(of, "gamma", "")->size, rows = arrays[k].size / D;
        for (int n = 0; n < 6; n++) got[n] = calloc(find(of, names[n], "")->size, sizeof(float));
        float *beta = find(of, "beta", "")->values, *dy = find(of, "dy", "")->values;
        double eps = find(of, "eps", "")->wide[0];
        forward(rows, D, x, gamma, beta, eps, got[0], got[1], got[2]);
        backward(rows, D, x, gamma, dy, got[1], got[2], got[3], got[4], got[5]);
        for (int n = 0; n < 6; n++, checked++) wrong += differs(of, names[n], got[n]) > 0;
    }
    return printf("%d arrays checked, %d wrong\n", checked, wrong), wrong || !checked;
}
