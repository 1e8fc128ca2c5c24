//! What system calls answer on ext4, and which modes and counts they leave: by the server itself as by the kernel's own driver.

use crate::{
    place::{USER, Who},
    world::{World, with_vault_of, with_who},
};

/// One call a line, in Perl: each line is told with its value, or with its errno.
const CALLS: &str = r#"
mkdir("d", 0755)
mkdir("d", 0755)
mkdir("d/none/d", 0755)
sysopen(F, "d/a", O_CREAT | O_EXCL | O_WRONLY, 0644)
sysopen(F, "d/a", O_CREAT | O_EXCL | O_WRONLY, 0644)
sysopen(F, "d/a/b", O_RDONLY)
sysopen(F, "d/a", O_DIRECTORY | O_RDONLY)
sysopen(F, "d", O_WRONLY)
sysopen(F, "d", O_CREAT | O_RDONLY)
sysopen(F, "", O_RDONLY)
mkdir("x" x 255, 0755)
mkdir("x" x 256, 0755)
rmdir("x" x 255)
rmdir("d")
rmdir("d/a")
rmdir("none")
rmdir("d/.")
unlink("d")
unlink("none")
unlink("d/a/b")
link("d", "e")
link("d/a", "d/a")
link("d/a", "b")
link("d/a", "b")
link("none", "c")
look("b")
symlink("target", "s")
symlink("target", "s")
symlink("", "empty")
symlink("t" x 4094, "long")
symlink("t" x 4096, "longer")
symlink("loop", "loop")
readlink("s")
readlink("d/a")
sysopen(F, "s", O_RDONLY)
sysopen(F, "s", O_RDONLY | O_NOFOLLOW)
sysopen(F, "loop", O_RDONLY)
rename("none", "c")
rename("d/a", "d")
rename("d", "d/a")
rename("d", "b")
rename("d", "d/below")
rename("b", "d/a")
look("b")
mkdir("empty", 0700)
rename("d", "empty")
rename("empty", "d")
look("d")
mkdir("sub", 0700) && mkdir("sub/sub", 0700) && look("sub")
rename("sub/sub", "d/sub") && look("sub") . look("d")
rename(".", "dot")
rename("d/..", "dot")
truncate("d/a", 100) && look("d/a")
truncate("d", 0)
truncate("none", 0)
truncate("d/a", -1)
truncate("d/a", 0x7fffffffffffffff)
truncate("d/a", 1 << 33) && look("d/a")
truncate("d/a", 0)
chmod(0754, "d/a") && look("d/a")
chmod(07777, "d") && look("d")
chmod(0644, "none")
chmod(0755, "d")
utime(1, 2, "d/a") && (stat "d/a")[9]
utime(1, 2, "none")
chown(-1, -1, "d/a")
chown(0, 0, "d/a") && look("d/a")
chown(12345, 54321, "d/a") && look("d/a")
chmod(06755, "d/a") && look("d/a")
chown($<, -1, "d/a") && look("d/a")
sysopen(F, "armed", O_CREAT | O_WRONLY, 0755) && chmod(06755, "armed") && look("armed")
syswrite(F, "disarms") && look("armed")
chmod(06755, "armed") && truncate("armed", 2) && look("armed")
chmod(02755, "d") && sysopen(F, "d/g", O_CREAT | O_WRONLY, 0666) && look("d/g")
mkdir("d/gd", 0777) && look("d/gd")
rmdir("d/gd") && unlink("d/g")
mkfifo("pipe", 0600) && look("pipe")
mkfifo("pipe", 0600)
mkdir("shut", 0000) && look("shut")
sysopen(F, "shut/f", O_CREAT | O_WRONLY)
opendir(D, "shut")
sysopen(F, "shut/f", O_RDONLY)
unlink("shut/f")
sysopen(F, "mute", O_CREAT | O_WRONLY, 0)
sysopen(F, "mute", O_RDONLY)
sysopen(F, "mute", O_WRONLY)
mkdir("fixed", 0755) && sysopen(F, "fixed/f", O_CREAT | O_WRONLY, 0644) && chmod(0555, "fixed")
unlink("fixed/f")
rename("fixed/f", "f")
mkdir("fixed/d", 0755)
link("d/a", "fixed/a")
symlink("a", "fixed/s")
mkfifo("fixed/p", 0600)
opendir(D, "lost+found")
chmod(0755, "lost+found") && look("lost+found")
chown(12345, -1, "lost+found")
utime(1, 2, "lost+found")
rename("lost+found", "lost") && rename("lost", "lost+found")
sysopen(F, "gone", O_CREAT | O_RDWR, 0600) && unlink("gone") && syswrite(F, "x") && (stat F)[3] . (stat F)[7]
sysopen(F, "d/a", O_WRONLY | O_APPEND) && syswrite(F, "ab") && sysseek(F, 0, 0) && syswrite(F, "c") && (stat F)[7]
sysseek(F, 100, 0) && syswrite(F, "far") && (stat F)[7]
sysopen(F, "d/a", O_WRONLY | O_TRUNC) && (stat F)[7] == 0
sysread(F, $_, 1)
"#;

/// Runs them where it is started.
const RUNNER: &str = r#"
use Fcntl; use POSIX "mkfifo"; umask 022;
sub look { my @s = lstat $_[0]; @s or return; sprintf "[%o %d %d %d %s]", @s[2, 3, 4, 5], -d _ ? "-" : $s[7] }
while (<DATA>) {
    chomp; next unless /\S/; $! = 0;
    my $value = eval $_; die $@ if $@;
    printf "%s = %s\n", $_, defined $value && $value ne "" && $value ne "0" ? $value : "errno " . ($! + 0);
}
sub below { opendir my $d, $_[0] or return; map { "$_[0]/$_" } grep { !/^\.\.?$/ } readdir $d }
print map { look($_) . " $_\n" } sort map { $_, below($_) } below(".");
__DATA__
"#;

fn answers(world: &World, driver: &str, start: &str) -> String {
    std::fs::write(world.path("calls.pl"), format!("{RUNNER}{CALLS}")).unwrap();
    world.done(&format!("mount v.vault m --password-file password --driver {driver}"));
    assert_eq!(world.listed()["driver"], *driver);
    let said = world.shell(&format!("cd m && {start} perl - < ../calls.pl"));
    world.done("unmount m");
    world.check_file_system();
    said
}

/// Both as the same user: what differs is told by its line.
fn assert_same(ours: &str, kernels: &str) {
    assert_eq!(ours.lines().count(), kernels.lines().count(), "{ours}\n{kernels}");
    let differing: Vec<_> =
        ours.lines().zip(kernels.lines()).filter(|(ours, kernel)| ours != kernel).collect();
    assert!(differing.is_empty(), "ours, the kernel's: {differing:#?}");
}

const OPTIONS: &str = "--size 48M --provision thin --filesystem ext4";

#[test]
fn system_calls_of_root_answer_as_the_kernels_ext4_does() {
    with_vault_of(Who::Root, OPTIONS, |kernels| {
        let theirs = answers(kernels, "kernel", "");
        with_who(Who::RootInServer, OPTIONS, |world| assert_same(&answers(world, "builtin", ""), &theirs));
    });
}

#[test]
fn system_calls_of_a_user_answer_as_the_kernels_ext4_does() {
    with_vault_of(Who::Root, OPTIONS, |kernels| {
        let start =
            format!("chown {USER}:{USER} . && exec setpriv --reuid={USER} --regid={USER} --clear-groups");
        let theirs = answers(kernels, "kernel", &start);
        with_vault_of(Who::User, OPTIONS, |world| assert_same(&answers(world, "builtin", ""), &theirs));
    });
}
