/* A Redis module with a type of its own, so that the mirror meets a value that it cannot know: TT.SET key number,
 * TT.ADD key number, TT.GET key. The functions are looked up by name as in redismodule.h (Redis 7.0). */
#include <stdint.h>
#include <stdlib.h>

typedef struct Ctx Ctx;
typedef struct Str Str;
typedef struct Key Key;
typedef struct Io Io;
typedef struct Type Type;

static void (*SetModuleAttribs)(Ctx *, const char *, int, int);
static int (*CreateCommand)(Ctx *, const char *, int (*)(Ctx *, Str **, int), const char *, int, int, int);
static Type *(*CreateDataType)(Ctx *, const char *, int, void *);
static Key *(*OpenKey)(Ctx *, Str *, int);
static void (*CloseKey)(Key *);
static int (*ModuleTypeSetValue)(Key *, Type *, void *);
static Type *(*ModuleTypeGetType)(Key *);
static void *(*ModuleTypeGetValue)(Key *);
static int (*StringToLongLong)(const Str *, long long *);
static int (*ReplyWithLongLong)(Ctx *, long long);
static int (*ReplyWithError)(Ctx *, const char *);
static int (*ReplicateVerbatim)(Ctx *);
static void (*SaveSigned)(Io *, int64_t);
static int64_t (*LoadSigned)(Io *);

static Type *type;

static void *load(Io *io, int version) {
    (void)version;
    int64_t *value = malloc(sizeof *value);
    *value = LoadSigned(io);
    return value;
}

static void save(Io *io, void *value) { SaveSigned(io, *(int64_t *)value); }

static int change(Ctx *ctx, Str **argv, int argc, int add) {
    long long number;
    if (argc != 3 || StringToLongLong(argv[2], &number)) return ReplyWithError(ctx, "ERR syntax");
    Key *key = OpenKey(ctx, argv[1], 3);
    int64_t *value = malloc(sizeof *value);
    *value = number;
    if (add && ModuleTypeGetType(key) == type) *value += *(int64_t *)ModuleTypeGetValue(key);
    number = *value;
    ModuleTypeSetValue(key, type, value);
    CloseKey(key);
    ReplicateVerbatim(ctx);
    return ReplyWithLongLong(ctx, number);
}

static int set(Ctx *ctx, Str **argv, int argc) { return change(ctx, argv, argc, 0); }

static int add(Ctx *ctx, Str **argv, int argc) { return change(ctx, argv, argc, 1); }

static int get(Ctx *ctx, Str **argv, int argc) {
    if (argc != 2) return ReplyWithError(ctx, "ERR syntax");
    Key *key = OpenKey(ctx, argv[1], 1);
    if (ModuleTypeGetType(key) != type) return ReplyWithError(ctx, "ERR no such value");
    long long number = *(int64_t *)ModuleTypeGetValue(key);
    CloseKey(key);
    return ReplyWithLongLong(ctx, number);
}

int RedisModule_OnLoad(Ctx *ctx, Str **argv, int argc) {
    (void)argv;
    (void)argc;
    int (*find)(const char *, void *) = *(int (**)(const char *, void *))ctx;
    find("RedisModule_SetModuleAttribs", &SetModuleAttribs);
    find("RedisModule_CreateCommand", &CreateCommand);
    find("RedisModule_CreateDataType", &CreateDataType);
    find("RedisModule_OpenKey", &OpenKey);
    find("RedisModule_CloseKey", &CloseKey);
    find("RedisModule_ModuleTypeSetValue", &ModuleTypeSetValue);
    find("RedisModule_ModuleTypeGetType", &ModuleTypeGetType);
    find("RedisModule_ModuleTypeGetValue", &ModuleTypeGetValue);
    find("RedisModule_StringToLongLong", &StringToLongLong);
    find("RedisModule_ReplyWithLongLong", &ReplyWithLongLong);
    find("RedisModule_ReplyWithError", &ReplyWithError);
    find("RedisModule_ReplicateVerbatim", &ReplicateVerbatim);
    find("RedisModule_SaveSigned", &SaveSigned);
    find("RedisModule_LoadSigned", &LoadSigned);
    SetModuleAttribs(ctx, "tandemtest", 1, 1);
    struct {
        uint64_t version;
        void *(*load)(Io *, int);
        void (*save)(Io *, void *);
        void *rewrite, *memory, *digest;
        void (*release)(void *);
    } methods = {1, load, save, 0, 0, 0, free};
    type = CreateDataType(ctx, "tandemtst", 0, &methods);
    if (!type) return 1;
    return CreateCommand(ctx, "tt.set", set, "write", 1, 1, 1) ||
           CreateCommand(ctx, "tt.add", add, "write", 1, 1, 1) ||
           CreateCommand(ctx, "tt.get", get, "readonly", 1, 1, 1);
}
