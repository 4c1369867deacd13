//! `annulus delete`: what is not there is deleted already.

use super::{
    failure::Failure,
    put::{Guard, acknowledge},
    target::{Place, Target, WriteOptions},
};

#[derive(clap::Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    guard: Guard,
    #[command(flatten)]
    options: WriteOptions,
    #[command(flatten)]
    target: Target,
}

impl Delete {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.target.client()?;
        let (context, condition) = (self.guard.context(), self.guard.condition());
        let written = client
            .delete_if(
                &self.place.bucket,
                self.place.key(),
                context.as_ref(),
                &condition,
                &self.options.options(),
            )
            .await?;
        acknowledge(&format!("deleted {}", self.place.shown()), &written, &self.target)
    }
}
