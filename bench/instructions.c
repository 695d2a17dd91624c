/* A plugin for the emulator qemu-user, version 7.2: counts the instructions of the
 * program that it runs. (Debian has no qemu-plugin.h.)
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb; /* instructions that are translated together */
enum operation { ADD };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_trans_cb(
    plugin_id self, void (*translated)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block,
                                              enum operation operation, void *number,
                                              uint64_t operand);
void qemu_plugin_register_atexit_cb(plugin_id self, void (*exits)(plugin_id, void *),
                                    void *context);
void qemu_plugin_outs(const char *text);
extern int qemu_plugin_version;
int qemu_plugin_install(plugin_id self, const void *emulator, int argc, char **argv);

int qemu_plugin_version = 1;
static uint64_t count;

static void
translated(plugin_id self, struct qemu_plugin_tb *block)
{
    (void)self;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD, &count,
                                             qemu_plugin_tb_n_insns(block));
}

static void
report(plugin_id self, void *context)
{
    char text[32];

    (void)self;
    (void)context;
    snprintf(text, sizeof(text), "%" PRIu64 "\n", count);
    qemu_plugin_outs(text);
}

int
qemu_plugin_install(plugin_id self, const void *emulator, int argc, char **argv)
{
    (void)emulator;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(self, translated);
    qemu_plugin_register_atexit_cb(self, report, NULL);
    return 0;
}
