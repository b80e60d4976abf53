//! `assay demo`: the whole way of an answer, and a cheater caught, in a temporary network.
//!
//! Nothing here is staged but the cheater itself: the same node, operator, watcher, gateway and modules run as in `assay up`. Every claim the story makes is
//! checked; the exit code is 0 only if all of them held.

mod books;
mod cheat;
mod story;

use crate::{args::DemoArgs, network, shell::Shell};

pub(crate) fn run(args: &DemoArgs, shell: &Shell) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("assay-demo-").tempdir()?;
    let runtime = network::runtime()?;
    if args.keep {
        let path = folder.keep();
        shell.note(format!("keeping {}", path.display()));
        return story::tell(args, &path, shell, &runtime);
    }
    let told = story::tell(args, folder.path(), shell, &runtime);
    folder.close()?;
    told
}
