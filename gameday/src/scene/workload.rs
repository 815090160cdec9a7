//! Instances and tasks: what runs with a role that a finding does not name.

use anyhow::{Context as _, Result};
use aws_sdk_ecs::types::{ContainerDefinition, TaskOverride};

use super::Role;
use crate::aws::Aws;

/// An instance profile, which has a name of its own.
#[derive(Debug, Clone)]
pub struct InstanceProfile {
    /// Its ARN.
    pub arn: String,
    /// Its unique id.
    pub id: String,
}

impl InstanceProfile {
    /// One that hands out a role.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn create(aws: &Aws, name: &str, role: &Role) -> Result<Self> {
        let answer = aws.iam.create_instance_profile().instance_profile_name(name).send().await?;
        let profile = answer.instance_profile().context("the new profile is not shown")?;
        aws.iam.add_role_to_instance_profile().instance_profile_name(name).role_name(&role.name).send().await?;
        Ok(Self { arn: profile.arn().to_owned(), id: profile.instance_profile_id().to_owned() })
    }
}

/// A task of ECS.
#[derive(Debug, Clone)]
pub struct EcsTask {
    /// Its cluster.
    pub cluster: String,
    /// The cluster's ARN.
    pub cluster_arn: String,
    /// Its ARN.
    pub arn: String,
    /// Its definition.
    pub definition_arn: String,
}

impl EcsTask {
    /// Runs one. Its definition says which role it has, and which role ECS starts it with; who runs it may say
    /// otherwise about the first.
    ///
    /// # Errors
    /// Where AWS refuses.
    pub async fn run(aws: &Aws, suffix: &str, defined: &Role, execution: &Role, overriding: &Role) -> Result<Self> {
        let cluster = format!("shop-{suffix}");
        let answer = aws.ecs.create_cluster().cluster_name(&cluster).send().await?;
        let cluster_arn = answer.cluster().and_then(|c| c.cluster_arn()).context("the new cluster has no ARN")?;
        let container = ContainerDefinition::builder().name("web").image("web:1").memory(128).build();
        let define = aws.ecs.register_task_definition().family(format!("web-{suffix}"));
        let define = define.task_role_arn(&defined.arn).execution_role_arn(&execution.arn);
        let answer = define.container_definitions(container).send().await?;
        let definition = answer.task_definition().and_then(|d| d.task_definition_arn());
        let definition_arn = definition.context("the new task definition has no ARN")?.to_owned();
        let overrides = TaskOverride::builder().task_role_arn(&overriding.arn).build();
        let run = aws.ecs.run_task().cluster(&cluster).task_definition(&definition_arn).overrides(overrides);
        let answer = run.send().await?;
        let arn = answer.tasks().first().and_then(|task| task.task_arn()).context("no task was started")?;
        Ok(Self { cluster, cluster_arn: cluster_arn.to_owned(), arn: arn.to_owned(), definition_arn })
    }
}
